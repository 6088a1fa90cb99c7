"""What no cut has to be able to cut off: trifles are joined with their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TINY = 1e-3
"""Of all time, and of all bytes: what is less is a trifle."""

_Near = list[set[int]]
_Bytes = NDArray[np.float64]


class Shared(NamedTuple):
    """What a unit has that others take: the unit, the others, and bytes in all."""

    source: int
    targets: tuple[int, ...]
    nbytes: int


def fold(
    time: Sequence[float] | NDArray[np.float64],
    size: Sequence[int] | NDArray[np.int64],
    arcs: Sequence[tuple[int, int]],
    values: Sequence[Shared],
) -> list[list[int]]:
    """Join units that take no time with a neighbour, where no cut between the two is worth its bytes.

    Constants, views of parameters, masks. Left alone, many of them could be on either side of a cut: with n of them
    there would be 2^n times as many cuts.

    Args:
        time: seconds of each unit.
        size: resident bytes of each.
        arcs: from unit to unit, from lower numbers to higher ones.
        values: what units hand to others, along the arcs or (in the backward pass) against them.

    Returns:
        The units that are joined, in an order that is topological still. Cost: near-linear.
    """
    return _Trifles(time, size, arcs, values).folded()


class _Trifles:
    """Units, and what each hands to and takes from those after it, and those before it."""

    def __init__(
        self,
        time: Sequence[float] | NDArray[np.float64],
        size: Sequence[int] | NDArray[np.int64],
        arcs: Sequence[tuple[int, int]],
        values: Sequence[Shared],
    ) -> None:
        count = len(time)
        self.time, self.size = np.array(time, dtype=float), np.array(size, dtype=float)
        self.brief, self.small = TINY * self.time.sum(), TINY * self.size.sum()
        self.after: list[set[int]] = [set() for _ in range(count)]
        self.before: list[set[int]] = [set() for _ in range(count)]
        for source, target in arcs:
            self.after[source].add(target)
            self.before[target].add(source)
        self.ahead, self.behind = np.zeros(count), np.zeros(count)  # bytes shared with units after it, before it
        for value in values:
            for one, others in ((value.source, value.targets), *((t, (value.source,)) for t in value.targets)):
                self.ahead[one] += value.nbytes * any(other > one for other in others)
                self.behind[one] += value.nbytes * any(other < one for other in others)
        self.members = {unit: [unit] for unit in range(count)}

    def folded(self) -> list[list[int]]:
        """The units, trifles joined with those after them, or before them.

        First those that have one neighbour on a side: a mask that is copied for each layer is copied where it is used.
        Of what is left, what only begins something, or ends it.
        """
        onwards = self.after, self.before, self.ahead, self.behind
        backwards = self.before, self.after, self.behind, self.ahead
        for at_ends in (False, True):
            for unit in range(len(self.time)):
                if unit in self.members and self._belongs(unit, at_ends, *onwards):
                    self._join(unit, min(self.after[unit]), *onwards)
            for unit in reversed(range(len(self.time))):
                if unit in self.members and self._belongs(unit, at_ends, *backwards):
                    self._join(unit, max(self.before[unit]), *backwards)
        return self._in_order()

    def _in_order(self) -> list[list[int]]:
        """What is left; trifles that nothing is handed to or by go with what comes before them."""
        groups: list[list[int]] = []
        for unit in sorted(self.members):
            alone = not self.before[unit] and not self.after[unit]
            if groups and alone and self._is_trifle(unit, 0.0):
                groups[-1] += self.members[unit]
            else:
                groups.append(self.members[unit])
        return groups

    def _is_trifle(self, unit: int, moved: float) -> bool:
        return bool(self.time[unit] <= self.brief and self.size[unit] <= max(self.small, 8 * moved))

    def _belongs(self, unit: int, at_ends: bool, ahead: _Near, behind: _Near, onward: _Bytes, back: _Bytes) -> bool:
        """Whether a cut on the other side of it is never worse than one between it and what is ahead."""
        if not ahead[unit] or not self._is_trifle(unit, onward[unit] + back[unit]):
            return False
        return not behind[unit] if at_ends else len(ahead[unit]) == 1 and bool(onward[unit] >= back[unit])

    def _join(self, unit: int, other: int, ahead: _Near, behind: _Near, onward: _Bytes, back: _Bytes) -> None:
        """Join with what is nearest ahead: nobody can be on another way to it, for that would be nearer."""
        for reached in ahead[unit]:
            behind[reached].discard(unit)
            if reached != other:
                behind[reached].add(other)
                ahead[other].add(reached)
        for passed in behind[unit]:
            ahead[passed].discard(unit)
            ahead[passed].add(other)
            behind[other].add(passed)
        back[other] = max(0.0, back[other] - onward[unit]) + back[unit]
        self.time[other] += self.time[unit]
        self.size[other] += self.size[unit]
        self.members[other] += self.members.pop(unit)
