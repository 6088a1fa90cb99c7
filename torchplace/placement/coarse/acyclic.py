"""Parts of a graph made acyclic: so that what they hand each other in the forward pass goes one way only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from torchplace.placement.coarse.quotient import Quotient

SLACK = 0.03
"""By so much the load of a part may be more than its share."""
PASSES = 10
"""Rounds in which single units are moved, at most."""


def acyclic(
    quotient: Quotient, parts: Sequence[int], weights: NDArray[np.float64], shares: Sequence[float]
) -> list[int]:
    """Move units so that the parts can be put in an order in which none hands anything back in the forward pass.

    Herrmann et al., "Multilevel Algorithms for Acyclic Partitioning of Directed Acyclic Graphs" (SIAM J. Sci. Comput.
    41, 2019), sections 4.2 and 4.3: units are pushed to the parts of those that they take from, or else to the parts of
    those that they give to, whichever leaves the parts nearer to their shares; then single units at the borders are
    moved as far as arcs allow, out of parts with more than their share, or where fewer bytes have to be handed over.
    The parts are put in the order of the mean positions of their units.

    Args:
        quotient: the units.
        parts: the part of each, by number.
        weights: of each unit; they add up to 1.
        shares: the weight that each part should have, by its number; they add up to 1.

    Returns:
        The part of each unit. Deterministic. Cost: linear in units + arcs + values, for each pass.
    """
    order = _order(parts, weights, len(shares))
    rank = {part: number for number, part in enumerate(order)}
    wanted = np.array([shares[part] for part in order])
    ranks = [rank[part] for part in parts]
    pushed = (_pushed(quotient, ranks, True), _pushed(quotient, ranks, False))
    moving = min((_Moving(quotient, found, weights, wanted) for found in pushed), key=lambda moving: moving.excess)
    moving.improve()
    return [order[number] for number in moving.rank]


def _order(parts: Sequence[int], weights: NDArray[np.float64], count: int) -> list[int]:
    """The parts by the mean positions of their units; empty ones last."""
    mass = np.bincount(parts, weights + 1e-12, minlength=count)
    moment = np.bincount(parts, (weights + 1e-12) * np.arange(len(parts)), minlength=count)
    middle = np.where(mass > 0, moment / np.maximum(mass, 1e-300), np.inf)
    return [int(part) for part in np.argsort(middle, kind="stable")]


def _pushed(quotient: Quotient, ranks: Sequence[int], later: bool) -> list[int]:
    """Every unit in no earlier part than those that it takes from; or in no later one than those that it gives to."""
    found = list(ranks)
    for source, target in sorted(quotient.arcs, key=lambda arc: arc[1]) if later else ():
        found[target] = max(found[target], found[source])
    for source, target in sorted(quotient.arcs, key=lambda arc: -arc[0]) if not later else ():
        found[source] = min(found[source], found[target])
    return found


class _Moving:
    """Units that are moved one by one, from part to part, as far as arcs allow.

    Attributes:
        rank: the number of each unit's part in the order of the parts.
    """

    def __init__(
        self, quotient: Quotient, rank: Sequence[int], weights: NDArray[np.float64], shares: NDArray[np.float64]
    ) -> None:
        self.rank, self.weights, self.ties = list(rank), weights.tolist(), quotient.ties
        self.load = np.bincount(self.rank, weights, minlength=len(shares)).tolist()
        self.limit = [max(share * (1 + SLACK), 1e-12) for share in shares.tolist()]
        self.before: list[list[int]] = [[] for _ in self.rank]
        self.after: list[list[int]] = [[] for _ in self.rank]
        for source, target in quotient.arcs:
            self.before[target].append(source)
            self.after[source].append(target)

    @property
    def excess(self) -> float:
        """Of the part that has most, compared with its share."""
        return max(self._full(rank, 0.0) for rank in range(len(self.load)))

    def improve(self) -> None:
        """Move units until no move helps."""
        units = range(len(self.rank))
        for _ in range(PASSES):
            if not sum(self._try(unit) for unit in (*units, *reversed(units))):
                break

    def _try(self, unit: int) -> bool:
        """Move a unit where that helps most; whether it was moved."""
        here, ranks = self.rank[unit], self.rank
        first = max((ranks[other] for other in self.before[unit]), default=0)
        last = min((ranks[other] for other in self.after[unit]), default=len(self.load) - 1)
        if first == last:
            return False
        near: dict[int, int] = {}
        for other, nbytes in self.ties[unit].items():
            near[ranks[other]] = near.get(ranks[other], 0) + nbytes
        candidates = sorted({first, last, here - 1, here, here + 1, *near} & {*range(first, last + 1)})
        best = min(candidates, key=lambda there: self._harm(unit, there, near))
        if self._harm(unit, best, near) >= self._harm(unit, here, near):
            return False
        self.load[here] -= self.weights[unit]
        self.load[best] += self.weights[unit]
        ranks[unit] = best
        return True

    def _harm(self, unit: int, there: int, near: dict[int, int]) -> tuple[float, int]:
        """Of a unit in a part: how full that and its own would be, beyond their limits; less bytes that it is near."""
        here, weight = self.rank[unit], self.weights[unit]
        if there == here:
            return max(1.0, self._full(here, 0.0)), -near.get(here, 0)
        return max(1.0, self._full(here, -weight), self._full(there, weight)), -near.get(there, 0)

    def _full(self, rank: int, more: float) -> float:
        return float((self.load[rank] + more) / self.limit[rank])
