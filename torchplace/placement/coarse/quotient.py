"""The forward pass in few units, each with what stands with it: an acyclic graph that solvers cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from torchplace.placement.coarse.contract import contract
from torchplace.placement.coarse.levels import Unit, attached
from torchplace.placement.coarse.model import MADE, Coarse
from torchplace.placement.coarse.trifles import Shared, fold
from torchplace.placement.problem import Problem

MAX_ITEMS = 5000
"""Larger problems are contracted to so many items first."""


@dataclass(frozen=True, eq=False)
class Quotient:
    """Units of items that are to be placed together, and what they hand each other.

    A unit has items of the forward pass, the ops of the backward pass that are attached to them (`attach`), and what
    must be on one device with any of these. What is pinned keeps its place in the order, but weighs nothing and hands
    nothing over: nothing is decided about it.

    Attributes:
        coarse: whose items they are.
        units: every item once; units in an order in which their forward parts can run.
        arcs: from unit to unit, of the forward pass: from lower numbers to higher ones.
    """

    coarse: Coarse
    units: tuple[Unit, ...]
    arcs: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, problem: Problem) -> Quotient:
        """The units of a problem, as many as can be told apart. Cost: near-linear."""
        coarse = Coarse.of(problem, MAX_ITEMS)
        together = attached(coarse)
        graph = nx.DiGraph(_arcs(coarse, together))
        graph.add_nodes_from(range(len(together)))
        # A cycle arises where a group has several forward ops: a path leaves it and comes back.
        whole = nx.condensation(graph)
        order = nx.lexicographical_topological_sort(whole, key=lambda n: min(whole.nodes[n]["members"]))
        members = [whole.nodes[n]["members"] for n in order]
        fine = cls._joined(coarse, [[item for unit in found for item in together[unit]] for found in members])
        return fine._merged(fold(fine.time.mean(axis=0), fine.size, fine.arcs, fine.values))

    @classmethod
    def _joined(cls, coarse: Coarse, groups: Sequence[Sequence[int]]) -> Quotient:
        units = tuple(tuple(sorted(items)) for items in groups)
        return cls(coarse, units, tuple(_arcs(coarse, units)))

    def shrunk(self, most: int) -> Quotient:
        """The same in at most so many units, about; without a cycle still. Cost: near-linear."""
        if len(self.units) <= most:
            return self
        return self._merged(contract(self.time.mean(axis=0).tolist(), self.arcs, [0] * len(self.units), most))

    def _merged(self, runs: Sequence[Sequence[int]]) -> Quotient:
        return self._joined(self.coarse, [[item for unit in run for item in self.units[unit]] for run in runs])

    @cached_property
    def unit_of(self) -> Sequence[int]:
        """The unit of each item."""
        return _owners(self.units, len(self.coarse.items))

    @cached_property
    def time(self) -> NDArray[np.float64]:
        """[kinds, units], seconds."""
        rows = [[sum(row[i] for i in self._free(unit)) for unit in self.units] for row in self.coarse.time]
        return np.array(rows, dtype=np.float64)

    @cached_property
    def size(self) -> NDArray[np.int64]:
        """[units], resident bytes."""
        return np.array([sum(self.coarse.size[i] for i in self._free(unit)) for unit in self.units], dtype=np.int64)

    def _free(self, unit: Unit) -> list[int]:
        return [item for item in unit if self.coarse.pinned[item] < 0]

    @cached_property
    def values(self) -> tuple[Shared, ...]:
        """What free units hand to others, state included; what goes the same way is one."""
        pinned, unit_of = self.coarse.pinned, self.unit_of
        found: dict[tuple[int, tuple[int, ...]], int] = {}
        for value in self.coarse.values:
            source = unit_of[value.source]
            targets = tuple(sorted({unit_of[t] for t in value.targets if pinned[t] < 0} - {source}))
            if targets and pinned[value.source] < 0:
                found[source, targets] = found.get((source, targets), 0) + value.nbytes
        return tuple(Shared(source, targets, nbytes) for (source, targets), nbytes in found.items())

    @cached_property
    def ties(self) -> tuple[dict[int, int], ...]:
        """For each unit, the others that it hands something to or takes something from -> bytes, both ways."""
        found: list[dict[int, int]] = [{} for _ in self.units]
        for source, targets, nbytes in self.values:
            for target in targets:
                found[source][target] = found[source].get(target, 0) + nbytes
                found[target][source] = found[target].get(source, 0) + nbytes
        return tuple(found)

    @cached_property
    def busy(self) -> tuple[float, ...]:
        """Seconds for which each device is busy with what is pinned to it."""
        coarse = self.coarse
        busy = [0.0] * len(coarse.devices)
        for item, device in enumerate(coarse.pinned):
            if device >= 0:
                busy[device] += coarse.time[coarse.kind_of[device]][item]
        return tuple(busy)

    @cached_property
    def held(self) -> tuple[int, ...]:
        """Bytes on each device that are there whatever is decided."""
        coarse = self.coarse
        held = [coarse.problem.fixed_bytes[device] for device in coarse.devices]
        for item, device in enumerate(coarse.pinned):
            if device >= 0:
                held[device] += coarse.size[item]
        return tuple(held)

    def placed(self, devices: Sequence[int]) -> list[int]:
        """The device of each item, for one of each unit."""
        pinned = self.coarse.pinned
        return [pinned[i] if pinned[i] >= 0 else int(devices[unit]) for i, unit in enumerate(self.unit_of)]


def _owners(units: Sequence[Unit], count: int) -> list[int]:
    found = [0] * count
    for number, unit in enumerate(units):
        for item in unit:
            found[item] = number
    return found


def _arcs(coarse: Coarse, units: Sequence[Unit]) -> list[tuple[int, int]]:
    """Who hands what to whom in the forward pass; of units that have no part in it, backwards."""
    unit_of, part = _owners(units, len(coarse.items)), coarse.part
    forward = [any(not part[item] for item in unit) for unit in units]
    arcs: dict[tuple[int, int], None] = {}
    for value in coarse.values:
        for target in value.targets if value.when == MADE else ():
            source, other = unit_of[value.source], unit_of[target]
            if source == other:
                continue
            if not part[value.source] and not part[target]:
                arcs[source, other] = None
            elif not forward[source] and not forward[other]:
                arcs[other, source] = None
    return list(arcs)
