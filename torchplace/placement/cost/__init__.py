"""The cost models: compute time of an op, and communication time between two devices."""
