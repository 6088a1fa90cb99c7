"""A random placement: every op anywhere. Tests exactness of what runs, and is a floor for comparisons."""

from __future__ import annotations

import random
from typing import ClassVar

from torchplace.placement.problem import Problem
from torchplace.placement.solvers.pack import Limits, Room, base_load, bytes_of, free_groups, within_memory


class Random:
    """Each group on a device drawn uniformly from those that have room for it and are allowed.

    Groups are drawn for in the order of their bytes, the largest first: it is they that would find no room
    later. Where memory is ample this is the uniform distribution over placements. The same seed gives the same
    placement, on every machine.

    Limits: makes no attempt to be fast. Where what it drew fits nowhere, the answer is that of `pack`, which is
    not random.
    """

    name: ClassVar[str] = "random"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Draw a placement.

        Raises:
            InfeasibleError: no placement that fits was found.
        """
        return within_memory(problem, self.name, lambda limits: self._draw(problem, limits, seed))

    def _draw(self, problem: Problem, limits: Limits, seed: int) -> dict[str, str]:
        generator = random.Random(seed)
        placement, room = dict(problem.pins), Room(limits, base_load(problem))
        heavy = [(bytes_of(problem, group), group) for group in free_groups(problem)]
        for nbytes, group in sorted(heavy, key=lambda item: -item[0]):
            device = problem.devices[generator.randrange(len(problem.devices))]
            if not (room.has(device, nbytes) and problem.allows(group[0], device)):
                fitting = room.with_room(nbytes, problem.forbidden.get(group[0], ()))
                device = fitting[generator.randrange(len(fitting))]
            room.take(device, nbytes)
            placement.update(dict.fromkeys(group, device))
        return placement
