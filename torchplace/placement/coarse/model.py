"""A placement problem in few pieces and plain numbers: what searches move about, thousands of times a second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from torchplace.compiler.graph import Op
from torchplace.compiler.order import hazards
from torchplace.placement.coarse.contract import contract
from torchplace.placement.problem import Problem

MADE, START, END = 0, 1, 2
"""When a value moves: when its item is done; at the start of the step (state); by its end (a gradient, home)."""


class Handed(NamedTuple):
    """What an item has that others take; what goes the same way is one.

    Attributes:
        source: the item that makes it, or that decides where it lives.
        targets: the items that take it, ascending.
        nbytes: bytes in all.
        when: `MADE`, `START` or `END`.
    """

    source: int
    targets: tuple[int, ...]
    nbytes: int
    when: int


class Way(NamedTuple):
    """From one device to another: latency (s), seconds per byte, and the links, by number, with theirs."""

    latency: float
    per_byte: float
    links: tuple[tuple[int, float], ...]


@dataclass(frozen=True, eq=False)
class Coarse:
    """A problem whose ops are joined to items. Devices, items and links are known by their numbers.

    Attributes:
        problem: the problem itself.
        items: the ops of each, in program order; the items in an order in which they can run.
        part: of each item: 0 forward, 1 what comes after it.
        time: for each kind of device, seconds of each item.
        kind_of: the kind of each device.
        size: resident bytes of each item.
        pinned: the device of each item that is fixed, else -1.
        values: what items hand to others.
        units: items that must be on one device, and those alone that are free of others.
        barred: items that must not be on some devices -> these.
    """

    problem: Problem
    items: tuple[tuple[str, ...], ...]
    part: tuple[int, ...]
    time: tuple[tuple[float, ...], ...]
    kind_of: tuple[int, ...]
    size: tuple[int, ...]
    pinned: tuple[int, ...]
    values: tuple[Handed, ...]
    units: tuple[tuple[int, ...], ...]
    barred: Mapping[int, frozenset[int]]
    _ways: dict[tuple[int, int], Way] = field(default_factory=dict, init=False, repr=False)
    _links: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, problem: Problem, most: int) -> Coarse:
        """A problem in at most so many items, about. Cost: near-linear."""
        ops = problem.graph.ops
        index = {op.name: i for i, op in enumerate(ops)}
        columns = list({id(problem.durations(d)): problem.durations(d) for d in problem.devices}.values())
        kinds = [(_part(op, problem), problem.pins.get(op.name), problem.forbidden.get(op.name)) for op in ops]
        mean = [sum(column[op.name] for column in columns) / len(columns) for op in ops]
        joined = contract(mean, _arcs(problem, index), kinds, most)
        item_of = {ops[node].name: number for number, nodes in enumerate(joined) for node in nodes}
        position = {device: number for number, device in enumerate(problem.devices)}
        number_of = {id(column): number for number, column in enumerate(columns)}
        return cls(
            problem,
            tuple(tuple(ops[node].name for node in nodes) for nodes in joined),
            tuple(kinds[nodes[0]][0] for nodes in joined),
            tuple(tuple(sum(c[ops[n].name] for n in nodes) for nodes in joined) for c in columns),
            tuple(number_of[id(problem.durations(d))] for d in problem.devices),
            tuple(sum(problem.op_bytes[ops[n].name] for n in nodes) for nodes in joined),
            tuple(position.get(problem.pins.get(ops[nodes[0]].name, ""), -1) for nodes in joined),
            tuple(_values(problem, item_of)),
            _units(problem, item_of, len(joined)),
            {
                number: frozenset(position[device] for device in forbidden)
                for number, nodes in enumerate(joined)
                if (forbidden := kinds[nodes[0]][2])
            },
        )

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices."""
        return self.problem.devices

    @cached_property
    def item_of(self) -> Mapping[str, int]:
        """Op -> its item."""
        return {op: number for number, ops in enumerate(self.items) for op in ops}

    @cached_property
    def sent(self) -> tuple[Handed, ...]:
        """The values as they are sent: a later part of the step, a program of its own, has them sent once more."""
        found = []
        for value in self.values:
            parts = {self.part[target]: None for target in value.targets} if value.when != END else {0: None}
            for part in parts:
                there = (target for target in value.targets if value.when == END or self.part[target] == part)
                found.append(value._replace(targets=tuple(there)))
        return tuple(found)

    @cached_property
    def made(self) -> tuple[tuple[int, ...], ...]:
        """For each item, what is sent of which it is the source."""
        found: list[list[int]] = [[] for _ in self.items]
        for number, value in enumerate(self.sent):
            found[value.source].append(number)
        return tuple(map(tuple, found))

    @cached_property
    def taken(self) -> tuple[tuple[int, ...], ...]:
        """For each item, what is sent that it takes."""
        found: list[list[int]] = [[] for _ in self.items]
        for number, value in enumerate(self.sent):
            for target in value.targets:
                found[target].append(number)
        return tuple(map(tuple, found))

    @cached_property
    def near(self) -> tuple[tuple[int, ...], ...]:
        """For each item, the items that it shares a value with."""
        found: list[dict[int, None]] = [{} for _ in self.items]
        for value in self.values:
            for target in value.targets[:16]:  # of a hub's many neighbours some are enough: they suggest moves
                found[value.source][target] = None
                found[target][value.source] = None
        return tuple(tuple(others) for others in found)

    def way(self, source: int, target: int) -> Way:
        """How bytes get from one device to another."""
        found = self._ways.get((source, target))
        if found is None:
            route = self.problem.topology.route(self.devices[source], self.devices[target])
            latency, bandwidth = self.problem.links.parameters(self.devices[source], self.devices[target])
            links = tuple((self._links.setdefault(k.name, len(self._links)), 1 / k.bandwidth) for k in route.links)
            found = self._ways[source, target] = Way(latency, 1 / bandwidth, links)
        return found

    def place(self, placed: Sequence[int]) -> dict[str, str]:
        """The placement of the ops, in program order, for a device of each item."""
        where = {op: self.devices[placed[number]] for op, number in self.item_of.items()}
        return {op: where[op] for op in self.problem.ops}

    def placed(self, placement: Mapping[str, str]) -> list[int]:
        """A device for each item, units together: where most of a unit's time, and of its bytes, was placed."""
        position = {device: number for number, device in enumerate(self.devices)}
        durations = self.problem.durations(self.devices[0])
        found = [0] * len(self.items)
        for unit in self.units:
            votes: dict[int, float] = {}
            for op in (op for item in unit for op in self.items[item]):
                at = position[placement[op]]
                votes[at] = votes.get(at, 0.0) + durations[op] + 1e-18 * (1 + self.problem.op_bytes[op])
            best = max(votes, key=lambda at: votes[at])
            for item in unit:
                found[item] = best
        return found

    def held(self, placed: Sequence[int]) -> list[int]:
        """Resident bytes on each device."""
        held = [self.problem.fixed_bytes[device] for device in self.devices]
        for size, at in zip(self.size, placed, strict=True):
            held[at] += size
        return held


def _part(op: Op, problem: Problem) -> int:
    return int(problem.training and op.phase != "forward")


def _arcs(problem: Problem, index: Mapping[str, int]) -> list[tuple[int, int]]:
    arcs = [(index[edge.source], index[edge.target]) for edge in problem.edges]
    arcs += [(index[op.name], index[after.name]) for op, follow in hazards(problem.graph).items() for after in follow]
    return arcs


def _values(problem: Problem, item_of: Mapping[str, int]) -> list[Handed]:
    """What crosses from item to item: made values, state that several use, gradients on their way to their owner."""
    users: dict[str, dict[int, None]] = {}
    for op in problem.graph.ops:
        for value in op.inputs:
            users.setdefault(value.name, {})[item_of[op.name]] = None
    found: dict[tuple[int, tuple[int, ...], int], int] = {}

    def add(source: int, targets: dict[int, None], nbytes: int, when: int) -> None:
        others = tuple(sorted(target for target in targets if target != source))
        if others:
            found[source, others, when] = found.get((source, others, when), 0) + nbytes

    for op in problem.graph.ops:
        for value in op.outputs:
            add(item_of[op.name], users.get(value.name, {}), value.nbytes, MADE)
            for parameter in problem.gradients.get(value.name, ()):
                owner = problem.owner_ops.get(parameter)
                if owner is not None:
                    add(item_of[op.name], {item_of[owner]: None}, value.nbytes, END)
    for value in problem.graph.inputs:
        owner = problem.owner_ops.get(value.name)
        if owner is not None:
            add(item_of[owner], users.get(value.name, {}), value.nbytes, START)
    return [Handed(source, targets, nbytes, when) for (source, targets, when), nbytes in found.items()]


def _units(problem: Problem, item_of: Mapping[str, int], count: int) -> tuple[tuple[int, ...], ...]:
    groups = ([item_of[op] for op in group] for group in problem.groups)
    return joined(count, groups)


def joined(count: int, groups: Iterable[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Numbers from 0 on, in sets: what shares a group is in one; in the order of their first members."""
    leader = list(range(count))

    def find(number: int) -> int:
        while leader[number] != number:
            leader[number] = leader[leader[number]]
            number = leader[number]
        return number

    for group in groups:
        for member in group[1:]:
            one, other = find(group[0]), find(member)
            leader[max(one, other)] = min(one, other)
    found: dict[int, list[int]] = {}
    for number in range(count):
        found.setdefault(find(number), []).append(number)
    return tuple(map(tuple, found.values()))
