"""m-ETF: always the op that can start first, where it can."""

from __future__ import annotations

from typing import ClassVar

from torchplace.placement.problem import Problem
from torchplace.placement.solvers.earliest import earliest_first
from torchplace.placement.solvers.pack import within_memory
from torchplace.placement.solvers.schedule import Schedule


class MemoryEtf:
    """Earliest task first, for devices with little memory: the op and the device with the earliest start are next.

    Jeon et al., "Baechi: Fast Device Placement of Machine Learning Graphs" (SoCC 2020), section 3.1; ETF itself is of
    Hwang et al. 1989. A device without room for an op's group is passed over.

    Beyond the papers: start times are looked at again only when an op comes up (`earliest_first`), and idle gaps are
    used.

    Limits: greedy; looks at starts, not at how fast a device is; transfers do not compete for links; of more than 32
    devices it compares those that `Schedule` does. Has no seed and no search. Cost: O((ops + edges) x min(devices, 32)
    x log ops), as long as few start times rise between two looks.
    """

    name: ClassVar[str] = "m-etf"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Schedule the ops, and keep where they went.

        Raises:
            InfeasibleError: no placement that fits was found.
        """
        return within_memory(problem, self.name, lambda limits: earliest_first(Schedule(problem, limits)))
