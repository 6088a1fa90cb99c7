"""Downward-closed sets of an acyclic graph, and what would cross the border of the difference of any two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from torchplace.placement.coarse.trifles import Shared

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ideals:
    """The sets of nodes that hold, with a node, all that leads to it. Smaller ones come first; number 0 is empty.

    Attributes:
        count: nodes.
        sets: each as an integer, whose bit number n stands for node n.
        grown: for each, (node, number of the set without it), for every node that nothing in the set comes after.
    """

    count: int
    sets: tuple[int, ...]
    grown: tuple[tuple[tuple[int, int], ...], ...]

    @classmethod
    def of(cls, count: int, arcs: Sequence[tuple[int, int]], most: int) -> Ideals | None:
        """All of them; None where there are more than `most`. Cost: O(ideals x nodes)."""
        before, after = [0] * count, [list[int]() for _ in range(count)]
        for source, target in arcs:
            before[target] |= 1 << source
            after[source].append(target)
        number, ways = {0: 0}, list[list[tuple[int, int]]]([[]])
        sets, ready = [0], [[node for node in range(count) if not before[node]]]
        at = 0
        while at < len(sets):
            for node in ready[at]:
                grown = sets[at] | 1 << node
                if grown not in number:
                    if len(sets) >= most:
                        return None
                    number[grown] = len(sets)
                    sets.append(grown)
                    ways.append([])
                    freed = [n for n in after[node] if not before[n] & ~grown]
                    ready.append([n for n in ready[at] if n != node] + freed)
                ways[number[grown]].append((node, at))
            at += 1
        return cls(count, tuple(sets), tuple(map(tuple, ways)))

    @cached_property
    def member(self) -> Flags:
        """[nodes, ideals]: who is in which."""
        found = np.zeros((self.count, len(self.sets)), dtype=bool)
        for number, ways in enumerate(self.grown[1:], start=1):
            node, smaller = ways[0]
            found[:, number] = found[:, smaller]
            found[node, number] = True
        return found

    @cached_property
    def within(self) -> Flags:
        """[ideals, ideals]: whether the first includes the second."""
        found = np.eye(len(self.sets), dtype=bool)
        for number, ways in enumerate(self.grown):
            for _, smaller in ways:
                found[number] |= found[smaller]
        return found

    def sums(self, weights: Floats) -> Floats:
        """[ideals, ideals]: what the nodes weigh that are in the first and not in the second, where it includes it."""
        total = weights @ self.member
        return np.asarray(total[:, None] - total[None, :])

    def crossing(self, values: Sequence[Shared]) -> tuple[Floats, Floats]:
        """Bytes that one ideal without another hands over, and bytes that it takes, where the one includes the other.

        Each value counts once where it is made, and once where it is taken, however many take it.

        Returns:
            Two tables [ideals, ideals]. Cost: O(ideals^2 x mean number of values of a node), in numpy.
        """
        return _Crossing(self, values).tables()


class _Crossing:
    """Bytes across the border of a set, kept up to date as the set grows by a node.

    An ideal is a smaller one and a node more. So is its difference with a third, if the third is within the smaller:
    what is known of that difference is known of this one, but for the values that the node makes or takes.
    """

    def __init__(self, ideals: Ideals, values: Sequence[Shared]) -> None:
        self.ideals, self.member = ideals, ideals.member
        self.nbytes = np.array([value.nbytes for value in values], dtype=float)
        self.source = np.array([value.source for value in values], dtype=np.int64)
        self.takers = np.array([len(value.targets) for value in values], dtype=np.int64)
        self.made: list[list[int]] = [[] for _ in range(ideals.count)]
        self.taken: list[list[int]] = [[] for _ in range(ideals.count)]
        self.inside = np.zeros((len(values), len(ideals.sets)), dtype=np.int32)  # takers of each value in each ideal
        for number, value in enumerate(values):
            self.made[value.source].append(number)
            self.inside[number] = self.member[list(value.targets)].sum(axis=0)
            for target in value.targets:
                self.taken[target].append(number)

    def tables(self) -> tuple[Floats, Floats]:
        count = len(self.ideals.sets)
        out, into = np.zeros((count, count)), np.zeros((count, count))
        for number, ways in enumerate(self.ideals.grown):
            missing = self.ideals.within[number].copy()
            missing[number] = False  # nothing crosses the border of what is empty
            for node, smaller in ways:
                # Sets that are within the smaller one come before it. What is written for others is never read.
                wanted = (missing & self.ideals.within[smaller])[: smaller + 1]
                if wanted.any():
                    missing[: smaller + 1] &= ~wanted
                    more_out, more_in = self._grow(node, smaller)
                    np.copyto(out[number, : smaller + 1], out[smaller, : smaller + 1] + more_out, where=wanted)
                    np.copyto(into[number, : smaller + 1], into[smaller, : smaller + 1] + more_in, where=wanted)
        return out, into

    def _grow(self, node: int, ideal: int) -> tuple[Floats, Floats]:
        """What a node adds to (an ideal without each of those up to it)."""
        made, taken, without = self.made[node], self.taken[node], slice(ideal + 1)
        inside = self.inside[made, ideal, None] - self.inside[made, without]
        out = self.nbytes[made] @ (inside < self.takers[made, None])
        into = -(self.nbytes[made] @ (inside > 0))
        inside = self.inside[taken, ideal, None] - self.inside[taken, without]
        source = self.source[taken]
        here = self.member[source, ideal, None] & ~self.member[source, without]
        into += self.nbytes[taken] @ (~here & (inside == 0))
        out -= self.nbytes[taken] @ (here & (inside + 1 == self.takers[taken, None]))
        return out, into
