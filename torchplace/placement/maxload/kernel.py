"""What must stay together if the largest load is to be below a limit: items are joined, and a small problem remains.

An item is separated from one that takes its value only if both devices' loads stay below the limit, whatever else is
on them. The least load of a device with one of them and without the other is a minimum cut: the load of a set of items
is their time, plus what crosses its border, and that is a submodular function (as in Stone, "Multiprocessor scheduling
with the aid of network flow algorithms", IEEE Transactions on Software Engineering 3, 1977).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from networkx.utils import UnionFind
from ortools.graph.python import max_flow  # type: ignore[import-untyped]

from torchplace.placement.maxload.problem import Handed, Ints, LoadProblem, sums

_STEPS = 10**9
"""Into so many steps a load is divided: flows are whole numbers."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """A problem whose items are joined items of another.

    Attributes:
        problem: the small one.
        part_of: [items of the other], the item that each belongs to.
    """

    problem: LoadProblem
    part_of: Ints

    @cached_property
    def first(self) -> Ints:
        """[items of the small one], the first item of the other that belongs to each."""
        return np.unique(self.part_of, return_index=True)[1]

    def place(self, placed: Ints) -> Ints:
        """A placement of the other problem, from one of the small one."""
        return placed[self.part_of]

    def shrink(self, placed: Ints) -> Ints:
        """A placement of the small problem, from one of the other: that of each part's first item."""
        return placed[self.first]


def kernel(problem: LoadProblem, limit: float, *, until: Callable[[], bool] = lambda: False) -> Kernel:
    """Join what no placement with a largest load below a limit separates.

    Args:
        problem: what is to be placed.
        limit: only placements with a lower largest load are of interest.
        until: says when to come to an end; what is joined by then is right, too.

    Cost: a minimum cut for each kind of device and pair of neighbours, in rounds until nothing more is joined.
    """
    found = Kernel(problem, np.arange(problem.count))
    for least in (_alone, least_load):
        while not until():
            joined = _join(found.problem.count, _forced(found.problem, limit, least, until))
            if joined.max(initial=-1) + 1 == found.problem.count:
                break
            found = Kernel(merge(found.problem, joined), joined[found.part_of])
    return found


Least = Callable[[LoadProblem, int, int, int], float]
"""(problem, kind, item with, item without) -> least load of a device of the kind with the one, without the other."""


def _forced(problem: LoadProblem, limit: float, least: Least, until: Callable[[], bool]) -> Iterator[tuple[int, int]]:
    kinds = range(len(problem.kinds))
    both = [(a, b) for a in kinds for b in kinds if problem.kinds[a].number and problem.kinds[b].number]
    both = [(a, b) for a, b in both if a != b or problem.kinds[a].number > 1]
    seen = set()
    for value in problem.values:
        for target in value.targets:
            pair = (min(value.source, target), max(value.source, target))
            if pair in seen or until():
                continue
            seen.add(pair)
            one = [least(problem, kind, value.source, target) for kind in kinds]
            other = [least(problem, kind, target, value.source) for kind in kinds]
            if all(max(one[a], other[b]) >= limit for a, b in both):
                yield pair


def _alone(problem: LoadProblem, kind: int, item: int, other: int) -> float:
    """The item's own time, and that of the values between the two."""
    load = float(problem.time[kind, item])
    for v in problem.touching[item]:
        value = problem.values[v]
        if value.source == item and other in value.targets:
            load += value.give[kind]
        elif value.source == other and item in value.targets:
            load += value.take[kind]
    return load


def least_load(problem: LoadProblem, kind: int, item: int, other: int) -> float:
    """The least load of a device of a kind that has one item, and not the other, over all sets. Rounded down."""
    time = problem.time[kind]
    if not np.isfinite(time[item]):
        return float("inf")
    finite = np.where(np.isfinite(time), time, 0.0)
    scale = _STEPS / max(float(finite.sum() + problem.give[kind].sum() + problem.take[kind].sum()), 1e-300)
    network = _Network(problem.count)
    for i in range(problem.count):
        cost = int(time[i] * scale) if np.isfinite(time[i]) else 4 * _STEPS
        network.arc(i, network.sink, cost)
    for value in problem.values:
        network.border(value, int(value.give[kind] * scale), int(value.take[kind] * scale))
    network.arc(network.source, item, 8 * _STEPS)
    network.arc(other, network.sink, 8 * _STEPS)
    flow = network.flow()
    return float("inf") if flow >= 4 * _STEPS else flow / scale


class _Network:
    """Items on the side of the source are on the device."""

    def __init__(self, count: int) -> None:
        self.source, self.sink, self.nodes = count, count + 1, count + 2
        self.arcs: list[tuple[int, int, int]] = []

    def arc(self, tail: int, head: int, capacity: int) -> None:
        if capacity:
            self.arcs.append((tail, head, capacity))

    def border(self, value: Handed, give: int, take: int) -> None:
        """Costs of a value that crosses the border: outwards if it is made inside, inwards if outside."""
        if give:
            through, self.nodes = self.nodes, self.nodes + 1
            self.arc(value.source, through, give)
            for target in value.targets:
                self.arc(through, target, 8 * _STEPS)
        if take:
            through, self.nodes = self.nodes, self.nodes + 1
            self.arc(through, value.source, take)
            for target in value.targets:
                self.arc(target, through, 8 * _STEPS)

    def flow(self) -> int:
        solver = max_flow.SimpleMaxFlow()
        tails, heads, capacities = (np.array(column, dtype=np.int64) for column in zip(*self.arcs, strict=True))
        solver.add_arcs_with_capacity(tails, heads, capacities)
        status = solver.solve(self.source, self.sink)
        assert status == solver.OPTIMAL, status
        return int(solver.optimal_flow())


def _join(count: int, pairs: Iterator[tuple[int, int]]) -> Ints:
    """[items]: the number of the part that each is in, parts in the order of their first items."""
    joined = UnionFind(range(count))
    for pair in pairs:
        joined.union(*pair)
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(joined[item], len(numbers)) for item in range(count)], dtype=np.int64)


def merge(problem: LoadProblem, part_of: Ints) -> LoadProblem:
    """The problem with parts as its items; values within a part are gone, those between the same parts are one."""
    parts = int(part_of.max(initial=-1)) + 1
    time = np.stack([sums(part_of, row, parts) for row in problem.time])
    alike: dict[tuple[int, tuple[int, ...]], list[Sequence[float]]] = {}
    for value in problem.values:
        source = int(part_of[value.source])
        if others := tuple(sorted({int(part_of[t]) for t in value.targets} - {source})):
            alike.setdefault((source, others), []).append((*value.give, *value.take))
    kinds = len(problem.kinds)
    values = []
    for (source, others), costs in alike.items():
        total = tuple(map(sum, zip(*costs, strict=True)))
        values.append(Handed(source, others, total[:kinds], total[kinds:]))
    arcs = {(int(part_of[a]), int(part_of[b])) for a, b in problem.arcs}
    size, across = sums(part_of, problem.size, parts), tuple(sorted(a for a in arcs if a[0] != a[1]))
    return LoadProblem(problem.name, problem.kinds, time, size, tuple(values), across)
