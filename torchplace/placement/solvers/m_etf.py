"""m-ETF: always the op that can start first, where it can."""

from __future__ import annotations

import heapq
from typing import ClassVar

from torchplace.compiler.graph import Op
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.pack import Limits, within_memory
from torchplace.placement.solvers.schedule import Choice, Schedule


class MemoryEtf:
    """Earliest task first, for devices with little memory: the op and the device with the earliest start are next.

    Jeon et al., "Baechi: Fast Device Placement of Machine Learning Graphs" (SoCC 2020), section 3.1; ETF itself is of
    Hwang et al., "Scheduling precedence graphs in systems with interprocessor communication times" (SIAM Journal on
    Computing 18, 1989). A device without room for an op's group is passed over.

    Beyond the papers: start times are kept in a heap and looked at again when an op comes up, so that the cost does not
    grow with the number of ready ops; idle gaps are used.

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
        return within_memory(problem, self.name, lambda limits: _Ready(problem, limits).run())


class _Ready:
    """The ops whose inputs are all made, by the time at which they could start."""

    def __init__(self, problem: Problem, limits: Limits) -> None:
        self.schedule = Schedule(problem, limits)
        self.ops = problem.by_name
        self.index = {op: i for i, op in enumerate(problem.ops)}
        self.after: dict[str, list[str]] = {}
        self.waiting = dict.fromkeys(problem.ops, 0)
        for edge in problem.edges:
            self.after.setdefault(edge.source, []).append(edge.target)
            self.waiting[edge.target] += 1
        self.heap: list[tuple[float, int, str]] = []

    def run(self) -> dict[str, str] | None:
        """Place every op; None where one finds no room."""
        for name, count in self.waiting.items():
            if not count and self._look(self.ops[name]) is None:
                return None
        while self.heap:
            known, _, name = heapq.heappop(self.heap)
            op = self.ops[name]
            choice = self.schedule.best(op, finish=False)
            if choice is None:
                return None
            if choice.start > known:
                self._push(name, choice.start)
                continue
            self.schedule.settle(op, choice)
            if not self._release(name):
                return None
        return self.schedule.placement

    def _release(self, name: str) -> bool:
        """What waited for an op alone is ready now; whether all of it has a place."""
        for following in self.after.get(name, ()):
            self.waiting[following] -= 1
            if not self.waiting[following] and self._look(self.ops[following]) is None:
                return False
        return True

    def _look(self, op: Op) -> Choice | None:
        choice = self.schedule.best(op, finish=False)
        if choice is not None:
            self._push(op.name, choice.start)
        return choice

    def _push(self, name: str, start: float) -> None:
        heapq.heappush(self.heap, (start, self.index[name], name))
