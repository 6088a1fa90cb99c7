"""Neighbourhoods: what is freed together, while all else is held."""

from __future__ import annotations

import random
from collections.abc import Sequence

from torchplace.placement.coarse.levels import Unit
from torchplace.placement.coarse.state import State

_DEVICES = 8
"""To so many devices units may go at once."""


class Neighbourhoods:
    """Draws units that have to do with each other.

    Shaw, "Using constraint programming and local search methods to solve vehicle routing problems" (CP 1998).

    Args:
        state: what is to become better.
        chance: what is drawn from.
    """

    def __init__(self, state: State, chance: random.Random) -> None:
        self.state, self.coarse, self.chance = state, state.coarse, chance

    def draw(self, units: Sequence[Unit], count: int) -> list[Unit]:
        """So many units of a partition: those that make it take long and their neighbours, or a stretch of the order.

        Items of a unit that are on several devices are several.
        """
        if count >= len(units):
            numbers = list(range(len(units)))
        elif self.chance.random() < 0.3:
            first = self.chance.randrange(len(units) - count + 1)
            numbers = list(range(first, first + count))
        else:
            numbers = self._around(units, self._seeds(units, count), count)
        return [part for number in numbers for part in self._split(units[number])]

    def _seeds(self, units: Sequence[Unit], count: int) -> list[int]:
        """A unit by chance, or some of those on the critical path, or on the busiest device or link."""
        hot = set(self.state.hot()) if self.chance.random() < 0.7 else set()
        found = [number for number, unit in enumerate(units) if not hot.isdisjoint(unit)]
        if not found:
            return [self.chance.randrange(len(units))]
        most = max(1, (2 * count) // 3)
        if len(found) <= most:
            return found
        if self.chance.random() < 0.5:
            return self.chance.sample(found, most)
        first = self.chance.randrange(len(found) - most + 1)
        return found[first : first + most]

    def _around(self, units: Sequence[Unit], seeds: list[int], count: int) -> list[int]:
        """Some units and the nearest to them, breadth first; if there are too few, others by chance."""
        unit_of = {item: number for number, unit in enumerate(units) for item in unit}
        found = dict.fromkeys(seeds)
        queue = list(seeds)
        while queue and len(found) < count:
            near = {unit_of.get(other, -1) for item in units[queue.pop(0)] for other in self.coarse.near[item]}
            new = sorted(near - found.keys() - {-1})[: count - len(found)]
            found.update(dict.fromkeys(new))
            queue += new
        others = [number for number in range(len(units)) if number not in found]
        found.update(dict.fromkeys(self.chance.sample(others, max(0, count - len(found)))))
        return sorted(found)

    def _split(self, unit: Unit) -> list[Unit]:
        parts: dict[int, list[int]] = {}
        for item in unit:
            parts.setdefault(self.state.placed[item], []).append(item)
        return [tuple(part) for part in parts.values()]

    def devices(self, free: Sequence[Unit]) -> set[int]:
        """Where units may go: everywhere, or where they and their neighbours are, and a few places by chance."""
        every = range(len(self.coarse.devices))
        if len(every) <= _DEVICES:
            return set(every)
        here = dict.fromkeys(self.state.placed[unit[0]] for unit in free)
        near = {self.state.placed[n] for unit in free for item in unit for n in self.coarse.near[item]}
        some = [*here, *sorted(near - here.keys())][: _DEVICES - 2]
        return {*some, *self.chance.sample(every, 2)}
