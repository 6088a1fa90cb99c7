"""Max-load placement: the busiest device of a full pipeline, in steady state."""
