"""The placement problem as a mixed-integer model, and a search with whoever solves such models."""
