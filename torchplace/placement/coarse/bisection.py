"""Recursive bisection: a graph is cut in two, one part for each half of the devices, and so on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from torchplace.placement.coarse.ideals import Floats

Ties = Sequence[Mapping[int, int]]
"""For each unit, its neighbours -> bytes between the two."""

Bisect = Callable[[Ties, Floats, float], Sequence[int]]
"""(units, weight of each, part of the weight that side 0 should have) -> side of each unit, 0 or 1."""


def bisected(ties: Ties, weights: Floats, shares: Sequence[float], bisect: Bisect) -> list[int]:
    """Cut a graph into parts, of which neighbours in number are neighbours in the graph.

    Simon, "Partitioning of unstructured problems for parallel processing" (Computing Systems in Engineering 2, 1991).

    Args:
        ties: the units; lower numbers come first where there is a choice.
        weights: of each unit.
        shares: the part of the weight that each part should have.
        bisect: cuts in two.

    Returns:
        The part of each unit. Cost: that of as many bisections as there are parts, less one.
    """
    found = [0] * len(weights)
    _Recursion(ties, weights, shares, bisect, found).run(list(range(len(weights))), 0, len(shares))
    return found


class _Recursion:
    """Fills in the part of each unit."""

    def __init__(self, ties: Ties, weights: Floats, shares: Sequence[float], bisect: Bisect, found: list[int]) -> None:
        self.ties, self.weights, self.shares, self.bisect, self.found = ties, weights, shares, bisect, found

    def run(self, units: Sequence[int], first: int, end: int) -> None:
        """Cut some units into the parts from `first` on, before `end`."""
        if not units:
            return
        if len(units) == 1 or end - first == 1:
            roomiest = max(range(first, end), key=lambda part: self.shares[part])
            for unit in units:
                self.found[unit] = roomiest
            return
        middle = (first + end) // 2
        left, right = sum(self.shares[first:middle]), sum(self.shares[middle:end])
        sides = self._sides(units, left / (left + right))
        for side, (start, stop) in enumerate(((first, middle), (middle, end))):
            self.run([unit for unit, at in zip(units, sides, strict=True) if at == side], start, stop)

    def _sides(self, units: Sequence[int], share: float) -> list[int]:
        number = {unit: i for i, unit in enumerate(units)}
        ties = [{number[o]: nbytes for o, nbytes in self.ties[u].items() if o in number} for u in units]
        weights = self.weights[list(units)]
        sides = list(self.bisect(ties, weights, share))
        if len(set(sides)) == 1:  # better one unit alone than half of the devices idle
            heavy = int(weights.argmax())
            sides = [int((unit == heavy) == (share < 0.5)) for unit in range(len(units))]
        if abs(share - 0.5) < 1e-6 and _middle(weights, sides, 0) > _middle(weights, sides, 1):
            sides = [1 - side for side in sides]
        return sides


def _middle(weights: Floats, sides: Sequence[int], side: int) -> float:
    """The mean number of the units of a side, by weight."""
    units = np.flatnonzero(np.array(sides) == side)
    return float(np.average(units, weights=weights[units] + 1e-12))
