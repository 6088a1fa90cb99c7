"""The placement problem in fewer pieces: what searches work on."""
