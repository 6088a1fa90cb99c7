"""Contraction: ops joined to fewer items, so that items still depend on each other without a cycle."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterable, Sequence


def contract(
    weights: Sequence[float],
    arcs: Iterable[tuple[int, int]],
    kinds: Sequence[Hashable],
    most: int,
) -> list[list[int]]:
    """Join nodes of a directed graph without cycles until there are at most so many.

    Two nodes are joined along an arc if the first leads nowhere else or the second comes from nowhere else: then no
    other way leads from one to the other, and no cycle can arise (Herrmann et al., "Multilevel Algorithms for Acyclic
    Partitioning of Directed Acyclic Graphs", SIAM J. Sci. Comput. 41, 2019, section 4.1). First come those whose
    joining delays others least. What is then still too much is cut into runs of a topological order.

    Args:
        weights: seconds of each node.
        arcs: from node to node; from lower numbers to higher ones.
        kinds: what must be equal for two nodes to be joined.
        most: nodes to be left, about: runs end where kinds change.

    Returns:
        The nodes of each item, ascending; the items in an order in which they can run. Deterministic.

    Cost: O((nodes + arcs) log nodes) where few nodes have many neighbours.
    """
    joining = _Joining(weights, arcs, kinds)
    total = sum(weights)
    cap = 2 * total / max(1, most)
    while joining.count > most and cap < 4 * total:
        joining.join_up_to(cap, most)
        cap *= 2
    order = joining.order()
    if len(order) > most:
        order = _runs(order, joining, total / most)
    return [sorted(member for node in run for member in joining.members[node]) for run in order]


class _Joining:
    """Nodes that were joined so far: a node stands for its members by the number of the first."""

    def __init__(self, weights: Sequence[float], arcs: Iterable[tuple[int, int]], kinds: Sequence[Hashable]) -> None:
        count = len(weights)
        self.weight, self.kinds, self.count = list(weights), kinds, count
        self.members: list[list[int]] = [[node] for node in range(count)]
        self.after: list[set[int]] = [set() for _ in range(count)]
        self.before: list[set[int]] = [set() for _ in range(count)]
        self.alive = [True] * count
        for source, target in arcs:
            self.after[source].add(target)
            self.before[target].add(source)

    def join_up_to(self, cap: float, most: int) -> None:
        """Join what may be joined and weighs no more than `cap` together, the least harmful first."""
        waiting: list[tuple[float, int, int]] = []
        for source in range(len(self.alive)):
            for target in self.after[source] if self.alive[source] else ():
                self._consider(source, target, cap, waiting.append)
        heapq.heapify(waiting)
        while waiting and self.count > most:
            harm, source, target = heapq.heappop(waiting)
            if not (self.alive[source] and self.alive[target] and target in self.after[source]):
                continue
            if self._harm(source, target, cap) != harm:
                continue  # it has changed since; another entry tells
            self._join(source, target)
            for before in self.before[source]:
                self._consider(before, source, cap, lambda entry: heapq.heappush(waiting, entry))
            for after in self.after[source]:
                self._consider(source, after, cap, lambda entry: heapq.heappush(waiting, entry))

    def _consider(self, source: int, target: int, cap: float, add: Callable[[tuple[float, int, int]], None]) -> None:
        harm = self._harm(source, target, cap)
        if harm is not None:
            add((harm, source, target))

    def _harm(self, source: int, target: int, cap: float) -> float | None:
        """Seconds by which others may be delayed; None where the two cannot be joined."""
        if self.kinds[source] != self.kinds[target] or self.weight[source] + self.weight[target] > cap:
            return None
        only_after, only_before = len(self.after[source]) == 1, len(self.before[target]) == 1
        if only_after and only_before:
            return 0.0
        if only_before:
            return self.weight[target]
        return self.weight[source] if only_after else None

    def _join(self, source: int, target: int) -> None:
        self.alive[target] = False
        self.count -= 1
        self.weight[source] += self.weight[target]
        self.members[source] += self.members[target]
        self.after[source].discard(target)
        self.before[target].discard(source)
        for node in self.after[target]:
            self.before[node].discard(target)
            self.before[node].add(source)
        for node in self.before[target]:
            self.after[node].discard(target)
            self.after[node].add(source)
        self.after[source] |= self.after[target]
        self.before[source] |= self.before[target]

    def order(self) -> list[list[int]]:
        """The nodes that are left, each alone, in a topological order as near to their numbers as can be."""
        first = {node: min(self.members[node]) for node, alive in enumerate(self.alive) if alive}
        missing = {node: len(self.before[node]) for node in first}
        ready = [(first[node], node) for node, count in missing.items() if not count]
        heapq.heapify(ready)
        order = []
        while ready:
            _, node = heapq.heappop(ready)
            order.append([node])
            for after in self.after[node]:
                missing[after] -= 1
                if not missing[after]:
                    heapq.heappush(ready, (first[after], after))
        return order


def _runs(order: Sequence[list[int]], joining: _Joining, share: float) -> list[list[int]]:
    """Runs of an order, of about equal weight, each of one kind."""
    runs: list[list[int]] = []
    weight = 0.0
    for (node,) in order:
        if runs and joining.kinds[runs[-1][0]] == joining.kinds[node] and weight + joining.weight[node] <= share:
            runs[-1].append(node)
            weight += joining.weight[node]
        else:
            runs.append([node])
            weight = joining.weight[node]
    return runs
