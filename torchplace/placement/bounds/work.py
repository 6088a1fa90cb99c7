"""What a captured graph asks of devices, as arrays: items, what they hand to each other, and what is fixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from torchplace.compiler.capture import Captured
from torchplace.compiler.graph import Graph, Op
from torchplace.placement.bounds.held import held_bytes
from torchplace.placement.bounds.machine import Machine, plain
from torchplace.placement.bounds.places import Placed, Places
from torchplace.placement.cost.compute import ComputeCost
from torchplace.placement.topology.device import Device

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Flow(NamedTuple):
    """A value that an item has and others take: in a step, it goes once to each device that has one of these.

    Attributes:
        source: the item that has it.
        targets: the items that take it; the source is none of them.
        nbytes: of the value.
    """

    source: int
    targets: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True)
class Part:
    """One of the graphs that run one after the other.

    Attributes:
        graph: itself.
        items: of each op, which item it is of.
        before: of each op, the ops before it that it takes something from, each with the bytes of the largest value.
    """

    graph: Graph
    items: Ints
    before: list[list[tuple[int, int]]]

    def times(self, machine: Machine, cost: ComputeCost) -> Floats:
        """Seconds of each op (column) on each sort of device (row), at least. Cost: ops x devices that differ."""
        writers = {name: op for op in self.graph.ops for name in op.mutates}
        known: dict[Device, Floats] = {}
        for device in (d for sort in machine for d in sort.likes):
            if plain(device) not in known:
                column = [_least(op, device, cost, writers) for op in self.graph.ops]
                known[plain(device)] = np.array(column, dtype=float)
        rows = [np.min([known[plain(d)] for d in sort.likes], axis=0) for sort in machine]
        return np.array(rows).reshape(len(machine), len(self.graph.ops))

    @property
    def in_segments(self) -> bool:
        """Whether there are ops, and all run in segments: none is an update, which costs no more than its op."""
        return bool(self.graph.ops) and not any(op.mutates for op in self.graph.ops)


@dataclass(frozen=True)
class Work:
    """All that is to be placed. Items are numbered from 0.

    Attributes:
        parts: the graphs that run one after the other.
        count: number of items.
        flows: what items hand to each other in a step.
        fixed: item -> the device that it is on, for those of which it is known.
        held: bytes that each item (column) brings to its device at the end of each part (row), at least.
    """

    parts: tuple[Part, ...]
    count: int
    flows: tuple[Flow, ...]
    fixed: Mapping[int, str]
    held: Floats

    @classmethod
    def of(
        cls,
        captured: Captured,
        default: str,
        *,
        state: Mapping[str, str],
        optimizer: Mapping[str, int],
        pins: Mapping[str, str],
    ) -> Work:
        """Read it off a captured graph.

        Args:
            captured: the graph and its parts.
            default: the device of state that no op uses.
            state: input name -> device, of state that lives somewhere already.
            optimizer: input name -> bytes of optimizer state that live beside a parameter.
            pins: op name -> device, for ops that are fixed.

        Cost: near-linear in the edges.
        """
        places = Places(captured, state, default)
        found = np.array([places.find(i) for i in range(len(places))], dtype=np.int64)
        stands, number = np.unique(found, return_inverse=True)
        held = np.array([np.bincount(number, row, len(stands)) for row in held_bytes(places, optimizer)])
        known = {places.item[name]: device for name, device in pins.items()} | places.fixed
        return cls(
            parts=tuple(Part(p.graph, number[np.array(p.ops, dtype=np.int64)], _before(p.graph)) for p in places.parts),
            count=len(stands),
            flows=tuple(flow for part in places.parts for flow in _flows(part, number.tolist())),
            fixed={int(number[i]): device for i, device in known.items()},
            held=held,
        )


def _least(op: Op, device: Device, cost: ComputeCost, writers: Mapping[str, Op]) -> float:
    """Seconds of an op; of a write, no more than of the last op that writes there, for that one's are counted."""
    seconds = cost.time(op, device)
    return min([seconds, *(cost.time(writers[name], device) for name in op.mutates)])


def _before(graph: Graph) -> list[list[tuple[int, int]]]:
    index = {v.name: i for i, op in enumerate(graph.ops) for v in op.outputs}
    found = []
    for op in graph.ops:
        taken: dict[int, int] = {}
        for value in op.inputs:
            at = index.get(value.name)
            if at is not None:
                taken[at] = max(taken.get(at, 0), value.nbytes)
        found.append(list(taken.items()))
    return found


def _flows(part: Placed, number: list[int]) -> list[Flow]:
    values = part.graph.values
    takers: dict[str, dict[int, None]] = {}
    for op, item in zip(part.graph.ops, part.ops, strict=True):
        for value in op.inputs:
            takers.setdefault(value.name, {})[number[item]] = None
    for value, item in part.ends:
        takers.setdefault(value.name, {})[number[item]] = None
    flows = []
    for name, targets in takers.items():
        source = number[part.at[name]]
        targets.pop(source, None)
        if targets:
            flows.append(Flow(source, tuple(targets), values[name].nbytes))
    return flows
