"""Ops dealt out like cards: the worst that a placement can do to the links."""

from __future__ import annotations

from itertools import cycle, islice
from typing import ClassVar

from torchplace.placement.problem import Problem
from torchplace.placement.solvers.pack import Limits, Room, base_load, bytes_of, free_groups, within_memory


class RoundRobin:
    """Groups in program order, each on the device after the last one's.

    Devices without room, or forbidden, are passed over.

    Limits: balances counts of ops, not time, and almost every value crosses a link. Has no seed and no search.
    """

    name: ClassVar[str] = "round-robin"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Deal the groups out.

        Raises:
            InfeasibleError: no placement that fits was found.
        """
        return within_memory(problem, self.name, lambda limits: self._deal(problem, limits))

    def _deal(self, problem: Problem, limits: Limits) -> dict[str, str]:
        placement, room = dict(problem.pins), Room(limits, base_load(problem))
        turns = cycle(problem.devices)
        for group in free_groups(problem):
            nbytes = bytes_of(problem, group)
            round_ = islice(turns, len(problem.devices))
            forbidden = problem.forbidden.get(group[0], ())
            fitting = (d for d in round_ if room.has(d, nbytes) and d not in forbidden)
            device = next(fitting, None) or room.tightest(nbytes, forbidden)
            room.take(device, nbytes)
            placement.update(dict.fromkeys(group, device))
        return placement
