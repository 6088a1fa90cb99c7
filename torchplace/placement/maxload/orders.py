"""Linear orders of a problem's items: topological ones of the forward pass, by keys."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import networkx as nx
import numpy as np

from torchplace.placement.maxload.problem import Floats, LoadProblem


@dataclass(frozen=True, eq=False)
class Units:
    """What a contiguous split keeps together: items on a cycle of the arcs, the others one by one.

    A cycle arises where several forward ops share a colour: a path leaves it and comes back.

    Attributes:
        problem: whose items they are.
    """

    problem: LoadProblem

    @cached_property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """The items of each unit, in the order of their first items."""
        graph = nx.DiGraph(self.problem.arcs)
        graph.add_nodes_from(range(self.problem.count))
        return tuple(sorted(tuple(sorted(found)) for found in nx.strongly_connected_components(graph)))

    @cached_property
    def of_item(self) -> Sequence[int]:
        """The unit of each item."""
        found = [0] * self.problem.count
        for unit, items in enumerate(self.members):
            for item in items:
                found[item] = unit
        return found

    @cached_property
    def after(self) -> Sequence[Sequence[int]]:
        """For each unit, those that an arc leads to."""
        found: list[set[int]] = [set() for _ in self.members]
        for source, target in self.problem.arcs:
            one, other = self.of_item[source], self.of_item[target]
            if one != other:
                found[one].add(other)
        return [sorted(units) for units in found]

    @cached_property
    def before(self) -> Sequence[int]:
        """For each unit, how many arcs lead to it from others."""
        found = [0] * len(self.members)
        for units in self.after:
            for unit in units:
                found[unit] += 1
        return found

    def order(self, keys: Sequence[float] | Floats) -> list[tuple[int, ...]]:
        """The topological order that takes, of the units that can be next, the one with the lowest key.

        Cost: O((units + arcs) log units).
        """
        waiting = list(self.before)
        ready = [(keys[unit], unit) for unit, count in enumerate(waiting) if not count]
        heapq.heapify(ready)
        found = []
        while ready:
            unit = heapq.heappop(ready)[1]
            found.append(self.members[unit])
            for following in self.after[unit]:
                waiting[following] -= 1
                if not waiting[following]:
                    heapq.heappush(ready, (keys[following], following))
        return found

    def plain(self) -> list[Floats]:
        """Keys of some orders to begin with: as written, by depth, and depth first from either end."""
        number = len(self.members)
        depth, height = np.zeros(number), np.zeros(number)
        as_written = [self.of_item[items[0]] for items in self.order(range(number))]
        for unit in as_written:
            for following in self.after[unit]:
                depth[following] = max(depth[following], depth[unit] + 1)
        for unit in reversed(as_written):
            height[unit] = max((height[following] + 1 for following in self.after[unit]), default=0.0)
        deep = np.zeros(number)
        for at, unit in enumerate(self._depth_first(height)):
            deep[unit] = at
        return [np.arange(number, dtype=float), depth, -height, deep]

    def _depth_first(self, height: Floats) -> list[int]:
        """A topological order that goes on with what has just become ready, the longest way first."""
        waiting = list(self.before)
        stack = sorted((unit for unit, count in enumerate(waiting) if not count), key=lambda u: height[u])
        found = []
        while stack:
            unit = stack.pop()
            found.append(unit)
            ready = []
            for following in self.after[unit]:
                waiting[following] -= 1
                if not waiting[following]:
                    ready.append(following)
            stack += sorted(ready, key=lambda u: height[u])
        return found
