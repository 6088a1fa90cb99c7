"""Reports: what people read of a plan. Tables first."""
