"""Earliest task first: of the ops that are ready, always the one that can start first is placed, where it can."""

from __future__ import annotations

import heapq
from collections.abc import Container

from torchplace.compiler.graph import Op
from torchplace.placement.solvers.schedule import Choice, Schedule


def earliest_first(schedule: Schedule, preferred: Container[str] = ()) -> dict[str, str] | None:
    """Place every op in turn.

    Hwang et al., "Scheduling precedence graphs in systems with interprocessor communication times" (SIAM Journal on
    Computing 18, 1989). Start times are kept in a heap and looked at again when an op comes up, so that the cost does
    not grow with the number of ready ops; it is right as long as they only rise.

    Args:
        schedule: without any op in it.
        preferred: names of ops that come before others with the same start; else the program's order decides.

    Returns:
        The placement; None where an op finds no room. Cost: O((ops + edges) x devices that the schedule compares x
        log ops), as long as few start times rise between two looks.
    """
    return _Ready(schedule, preferred).run()


class _Ready:
    """The ops whose inputs are all made, by the time at which they could start."""

    def __init__(self, schedule: Schedule, preferred: Container[str]) -> None:
        problem = schedule.problem
        self.schedule = schedule
        self.ops = problem.by_name
        self.rank = {op: (op not in preferred, i) for i, op in enumerate(problem.ops)}
        self.after: dict[str, list[str]] = {}
        self.waiting = dict.fromkeys(problem.ops, 0)
        for edge in problem.edges:
            self.after.setdefault(edge.source, []).append(edge.target)
            self.waiting[edge.target] += 1
        self.heap: list[tuple[float, tuple[bool, int], str]] = []

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
        heapq.heappush(self.heap, (start, self.rank[name], name))
