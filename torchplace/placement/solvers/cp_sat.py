"""cp-sat: constraint programming, exact on small graphs, neighbourhood by neighbourhood on the rest."""

from __future__ import annotations

from typing import ClassVar

from torchplace.placement.exact.cp import CpEngine
from torchplace.placement.exact.solve import solve
from torchplace.placement.problem import Problem


class CpSat:
    """OR-Tools' CP-SAT on the graph contracted to some 200 items, from the best of some quick placements.

    Small problems (units times devices up to 320) are solved as a whole: a choice of device for each unit; for the
    throughput, the loads of devices and links; for the latency, optional intervals on devices, and transfers between
    them. Larger ones, and what is left of the time, by large-neighbourhood search (Shaw, "Using constraint programming
    and local search methods to solve vehicle routing problems", CP 1998): some units are free, the rest stays. What is
    found is scored by the coarse clock and loads, and the best of it by `problem.evaluate`.

    Limits: exact only for the contracted problem as the model has it. Uses the seed, and effort is counted in CP-SAT's
    deterministic time: where the time limit does not strike, a run gives the same again. One core.
    """

    name: ClassVar[str] = "cp-sat"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Search a placement.

        Raises:
            InfeasibleError: no placement that fits was found.
        """
        return solve(problem, self.name, CpEngine(), seed=seed, time_limit=time_limit)
