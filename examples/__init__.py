"""Models to point the command line at: each file has a `build` that returns a model and its inputs."""
