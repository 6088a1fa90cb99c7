"""kernighan-lin: parts that hand each other few bytes, by exchanging pairs of units between two halves."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import ClassVar

import networkx as nx
import numpy as np

from torchplace.placement.coarse.bisection import Ties
from torchplace.placement.coarse.ideals import Floats
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.parts import place_parts

MAX_UNITS, STARTS = 400, 3
"""Larger graphs are contracted, for exchanges are made in Python; each bisection begins in so many ways."""
SLACK = 0.03
"""By so much of the whole a side may weigh more than its share."""


class KernighanLin:
    """The graph cut into one part for each device, by recursive bisection with exchanges of pairs.

    Kernighan and Lin, "An efficient heuristic procedure for partitioning graphs" (Bell System Technical Journal 49,
    1970), as networkx has it: pairs of units are exchanged between two sides, worse ones too if better ones follow. It
    is begun at the program's order cut where the weights say, and at random ones. The halves of the devices are those
    of the topology's order (`bisected`). Parts are made acyclic where that is better (`place_parts`). Ops of the
    backward pass go with those of the forward pass that they belong to (`attach`).

    Beyond the paper, whose units all weigh the same: exchanges keep the numbers of units, so afterwards single units
    are moved off the side that weighs too much, those first that cost the fewest bytes.

    Limits: what counts is all bytes between parts, not those of the busiest link, nor who waits for whom. Graphs of
    more than 400 units are contracted. Cost: O((units + values) log units) for each of at most 10 rounds, times starts
    and levels of the recursion.
    """

    name: ClassVar[str] = "kernighan-lin"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Cut the graph.

        Raises:
            InfeasibleError: no placement that fits was found.
        """

        def bisect(ties: Ties, weights: Floats, share: float) -> Sequence[int]:
            return min(bisections(ties, weights, share, random.Random(seed)), key=lambda sides: _cut(ties, sides))

        return place_parts(problem, self.name, MAX_UNITS, bisect, time_limit)


def bisections(ties: Ties, weights: Floats, share: float, chance: random.Random) -> Iterator[list[int]]:
    """Bisections from several beginnings.

    Args:
        ties: the units, two at least.
        weights: of each.
        share: the part of the weight that side 0 should have.
        chance: what all but the first beginning are drawn from.
    """
    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from(range(len(ties)))
    graph.add_weighted_edges_from((one, other, n) for one, near in enumerate(ties) for other, n in near.items())
    order, wanted = list(range(len(ties))), share * float(weights.sum())
    for _ in range(STARTS):
        before = weights[order].cumsum() - weights[order] / 2
        count = min(max(1, int((before < wanted).sum())), len(order) - 1)
        halves = nx.community.kernighan_lin_bisection(graph, (set(order[:count]), set(order[count:])))
        first = min(halves, key=lambda half: abs(float(weights[list(half)].sum()) - wanted))
        yield _balanced(ties, weights, share, [int(unit not in first) for unit in range(len(ties))])
        chance.shuffle(order)


def _balanced(ties: Ties, weights: Floats, share: float, sides: list[int]) -> list[int]:
    """Move units off the side that weighs too much."""
    total = float(weights.sum())
    excess = float(weights[np.array(sides) == 0].sum()) - share * total  # of side 0
    while abs(excess) > SLACK * total:
        heavy = 0 if excess > 0 else 1
        movable = [u for u, side in enumerate(sides) if side == heavy and 0 < weights[u] < 2 * abs(excess)]
        if not movable:
            break
        unit = max(movable, key=lambda u: _gain(ties, sides, u))
        sides[unit] = 1 - heavy
        excess -= float(weights[unit]) * (1 if heavy == 0 else -1)
    return sides


def _gain(ties: Ties, sides: Sequence[int], unit: int) -> int:
    """Bytes that need not be handed over any more if a unit changes sides."""
    return sum(nbytes if sides[other] != sides[unit] else -nbytes for other, nbytes in ties[unit].items())


def _cut(ties: Ties, sides: Sequence[int]) -> int:
    """Bytes between the sides, twice."""
    return sum(n for unit, near in enumerate(ties) for other, n in near.items() if sides[unit] != sides[other])
