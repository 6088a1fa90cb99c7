"""The set of items of most worth whose load is within a limit, on graphs that a narrow frontier can sweep.

Items are taken in an order in which few values are open at a time: made or taken by some item that was seen, and by
some that was not. A dynamic program goes along it; its state is what the open values still may cost, and the load so
far, in steps (Bodlaender, "A tourist guide through treewidth", Acta Cybernetica 11, 1993, tells of such programs).
Graphs of models are long and narrow: a transformer has some five open values anywhere, however deep it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from torchplace.placement.maxload.problem import Flags, Floats, Handed, LoadProblem

_BUCKETS = 4000
"""Into so many steps the limit is divided; loads are rounded down to them, so that the answer bounds from above."""
_STATES = 1500  # at a step: where there are more, the graph is too wide
_BYTES = 5e8  # of what tells how a set was reached

_TAKEN, _LEFT, _BOTH, _INSIDE, _OUTSIDE, _PAID = range(1, 7)
"""What is known of an open value. While its maker was not seen: some takers are in the set, none, or both. Then: the
maker is in the set, or not; or the value was paid for, and costs nothing more."""


class _Way(NamedTuple):
    """How a state is reached: from which one, by how many steps of load, and whether the item is in the set."""

    origin: int
    steps: int
    inside: bool


class _Step(NamedTuple):
    item: int
    states: list[list[_Way]]


class Frontier:
    """The sweep of a problem for one kind of device and one limit; worths may change from question to question.

    Args:
        problem: whose items they are.
        kind: number of the kind of device.
        limit: of the load.

    Attributes:
        steps: of the sweep; None where the graph is too wide.
    """

    def __init__(self, problem: LoadProblem, kind: int, limit: float) -> None:
        self.problem, self.kind, self.scale = problem, kind, _BUCKETS / limit
        self.costly = [v for v, value in enumerate(problem.values) if value.give[kind] or value.take[kind]]
        self.touching = [[v for v in touched if v in set(self.costly)] for touched in problem.touching]
        self.steps = self._build()

    def most(self, worth: Floats) -> tuple[float, Flags]:
        """(The most worth that a device can hold within the limit, rounded up; a set that has it).

        The set's load may be above the limit by what rounding took off. Needs `steps`.
        """
        assert self.steps is not None
        best = [np.full(_BUCKETS + 1, -np.inf)]
        best[0][0] = 0.0
        ways: list[list[np.ndarray[tuple[int], np.dtype[np.uint8]]]] = []
        for step in self.steps:
            found, chosen = [], []
            for state in step.states:
                values, which = np.full(_BUCKETS + 1, -np.inf), np.zeros(_BUCKETS + 1, dtype=np.uint8)
                for number, way in enumerate(state):
                    here, there = values[way.steps :], best[way.origin][: _BUCKETS + 1 - way.steps]
                    there = there + worth[step.item] if way.inside else there
                    better = there > here
                    np.copyto(here, there, where=better)
                    which[way.steps :][better] = number
                found.append(values)
                chosen.append(which)
            best = found
            ways.append(chosen)
        (last,) = best
        return float(last.max()), self._trace(ways, int(last.argmax()))

    def _trace(self, ways: Sequence[Sequence[np.ndarray[tuple[int], np.dtype[np.uint8]]]], bucket: int) -> Flags:
        assert self.steps is not None
        inside, state = np.zeros(self.problem.count, dtype=bool), 0
        for step, chosen in zip(reversed(self.steps), reversed(ways), strict=True):
            way = step.states[state][chosen[state][bucket]]
            inside[step.item] = way.inside
            state, bucket = way.origin, bucket - way.steps
        return inside

    def _build(self) -> list[_Step] | None:
        open_values: list[int] = []
        states: list[tuple[int, ...]] = [()]
        steps, seen, size = [], set[int](), 0.0
        for item in self._order():
            seen.add(item)
            known = [*open_values, *(v for v in self.touching[item] if v not in open_values)]
            closed = {v for v in self.touching[item] if self._members(v) <= seen}
            numbers: dict[tuple[int, ...], int] = {}
            found: list[list[_Way]] = []
            for origin, state in enumerate(states):
                before = dict(zip(open_values, state, strict=True))
                for inside in (False, True):
                    after, cost = self._choose(item, inside, before)
                    if not np.isfinite(cost) or int(cost * self.scale) > _BUCKETS:
                        continue
                    key = tuple(after[v] for v in known if v not in closed)
                    number = numbers.setdefault(key, len(numbers))
                    if number == len(found):
                        found.append([])
                    found[number].append(_Way(origin, int(cost * self.scale), inside))
            size += len(found) * _BUCKETS
            if len(found) > _STATES or size > _BYTES or any(len(ways) > 255 for ways in found):
                return None
            steps.append(_Step(item, found))
            open_values, states = [v for v in known if v not in closed], list(numbers)
        return steps

    def _members(self, v: int) -> set[int]:
        value = self.problem.values[v]
        return {value.source, *value.targets}

    def _choose(self, item: int, inside: bool, before: dict[int, int]) -> tuple[dict[int, int], float]:
        """(What is known of the values behind an item, what it costs)."""
        after, cost = dict(before), float(self.problem.time[self.kind, item]) if inside else 0.0
        for v in self.touching[item]:
            value = self.problem.values[v]
            at = _as_source if value.source == item else _as_target
            after[v], pays = at(before.get(v, 0), inside, value, self.kind)
            cost += pays
        return after, cost

    def _order(self) -> list[int]:
        """Always next the item, of those beside what is open, that leaves the fewest values open."""
        left = {v: len(self._members(v)) for v in self.costly}
        open_values: set[int] = set()
        waiting = dict.fromkeys(range(self.problem.count))
        order: list[int] = []
        while waiting:
            near = {i for v in open_values for i in self._members(v) if i in waiting}
            candidates = sorted(near) or [next(iter(waiting))]
            item = min(candidates, key=lambda i: self._more(i, open_values, left))
            del waiting[item]
            order.append(item)
            for v in self.touching[item]:
                left[v] -= 1
                if left[v]:
                    open_values.add(v)
                else:
                    open_values.discard(v)
        return order

    def _more(self, item: int, open_values: set[int], left: dict[int, int]) -> int:
        """By how many the open values would grow."""
        return sum((left[v] > 1) - (v in open_values) for v in self.touching[item])


def _as_source(known: int, inside: bool, value: Handed, kind: int) -> tuple[int, float]:
    """Behind the maker of a value: (what is known of it, what is paid)."""
    if inside and known in (_LEFT, _BOTH):
        return _PAID, value.give[kind]
    if not inside and known in (_TAKEN, _BOTH):
        return _PAID, value.take[kind]
    return (_INSIDE if inside else _OUTSIDE), 0.0


def _as_target(known: int, inside: bool, value: Handed, kind: int) -> tuple[int, float]:
    """Behind one that takes a value: (what is known of it, what is paid)."""
    if known == _INSIDE and not inside:
        return _PAID, value.give[kind]
    if known == _OUTSIDE and inside:
        return _PAID, value.take[kind]
    if known in (_INSIDE, _OUTSIDE, _PAID):
        return known, 0.0
    now = _TAKEN if inside else _LEFT
    return (now if known in (0, now) else _BOTH), 0.0
