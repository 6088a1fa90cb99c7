"""milp: mixed-integer linear programs, by branch and cut."""

from __future__ import annotations

from typing import ClassVar

from torchplace.placement.exact.scip import ScipEngine
from torchplace.placement.exact.solve import solve
from torchplace.placement.problem import Problem


class Milp:
    """SCIP, through OR-Tools' MathOpt, on the graph contracted to some 200 items, from the best of quick placements.

    The max-load program of Tarnawski et al., "Efficient Algorithms for Device Placement of DNN Graph Operators"
    (NeurIPS 2020), with links as places of their own, for the throughput; for the latency the longest path and the
    loads, a relaxation whose answers the coarse clock scores. Small problems (units times devices up to 160) as a
    whole, others by large-neighbourhood search, as `cp-sat` does.

    Limits: as of `cp-sat`; the order of ops on a device is no part of the program. Uses the seed. One core.
    """

    name: ClassVar[str] = "milp"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Search a placement.

        Raises:
            InfeasibleError: no placement that fits was found.
        """
        return solve(problem, self.name, ScipEngine(), seed=seed, time_limit=time_limit)
