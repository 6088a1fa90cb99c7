"""A placement that changes item by item, with its loads kept up to date."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from torchplace.placement.maxload.problem import Ints, LoadProblem


class State:
    """Loads of a placement under moves of single items.

    Plain lists, not arrays: a move touches a handful of numbers.

    Args:
        problem: what is placed.
        placed: [items], each item's device.
    """

    def __init__(self, problem: LoadProblem, placed: Ints) -> None:
        self.problem = problem
        self.placed: list[int] = placed.tolist()
        self.loads: list[float] = problem.loads(placed).tolist()
        self.held: list[float] = problem.held(placed).tolist()
        self.capacity: list[float] = problem.capacity.tolist()
        self.time: list[list[float]] = problem.time[problem.kind_of].tolist()
        self.size: list[float] = problem.size.tolist()
        self.give: list[list[float]] = problem.give[problem.kind_of].tolist()
        self.take: list[list[float]] = problem.take[problem.kind_of].tolist()
        self.source = [value.source for value in problem.values]
        self.takers = [len(value.targets) for value in problem.values]
        self.on: list[list[int]] = [[0] * len(problem.devices) for _ in problem.values]
        for v, value in enumerate(problem.values):
            for target in value.targets:
                self.on[v][self.placed[target]] += 1

    def changes(self, item: int, to: int) -> list[float]:
        """By how much each device's load changes if an item moves to another device. Cost: O(devices + its values)."""
        at = self.placed[item]
        change = [0.0] * len(self.loads)
        change[at] -= self.time[at][item]
        change[to] += self.time[to][item]
        for v in self.problem.touching[item]:
            on = self.on[v]
            if self.source[v] == item:
                self._as_source(v, on, at, to, change)
            else:
                self._as_target(v, on, at, to, change)
        return change

    def _as_source(self, v: int, on: Sequence[int], at: int, to: int, change: list[float]) -> None:
        if on[at]:
            change[at] += self.take[at][v]
        if on[to]:
            change[to] -= self.take[to][v]
        if self.takers[v] > on[at]:
            change[at] -= self.give[at][v]
        if self.takers[v] > on[to]:
            change[to] += self.give[to][v]

    def _as_target(self, v: int, on: Sequence[int], at: int, to: int, change: list[float]) -> None:
        source = self.placed[self.source[v]]
        if on[at] == 1 and at != source:
            change[at] -= self.take[at][v]
        if not on[to] and to != source:
            change[to] += self.take[to][v]
        away = self.takers[v] - on[source]
        then = away + (at == source) - (to == source)
        if away and not then:
            change[source] -= self.give[source][v]
        elif then and not away:
            change[source] += self.give[source][v]

    def fits(self, item: int, to: int) -> bool:
        """Whether a device has room for an item, and can run it."""
        return self.held[to] + self.size[item] <= self.capacity[to] and self.time[to][item] < float("inf")

    def move(self, item: int, to: int, change: Sequence[float]) -> None:
        """Move an item; `change` is what `changes` said of it."""
        at = self.placed[item]
        self.placed[item] = to
        self.held[at] -= self.size[item]
        self.held[to] += self.size[item]
        for v in self.problem.touching[item]:
            if self.source[v] != item:
                self.on[v][at] -= 1
                self.on[v][to] += 1
        for device, more in enumerate(change):
            self.loads[device] += more

    @property
    def array(self) -> Ints:
        """The placement."""
        return np.array(self.placed, dtype=np.int64)
