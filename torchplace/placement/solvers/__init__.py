"""The solvers: one heuristic or exact method a file, in one registry."""
