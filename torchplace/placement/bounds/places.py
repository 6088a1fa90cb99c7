"""Which ops are always on one device, and at which of them each value is: the rules of `lower`, without a placement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torchplace.compiler.capture import Captured
from torchplace.compiler.graph import Graph, Output, Value
from torchplace.placement.owners import owner_ops


@dataclass(frozen=True)
class Placed:
    """One of the graphs that run one after the other.

    Attributes:
        graph: itself.
        ops: of each op, the item that it is a part of.
        at: value name -> the item on whose device it is first.
        ends: of each value that the graph returns, in order and as often as it does, the item on whose device it ends.
    """

    graph: Graph
    ops: list[int] = field(default_factory=list)
    at: dict[str, int] = field(default_factory=dict)
    ends: list[tuple[Value, int]] = field(default_factory=list)


class Places:
    """The items of a captured graph: an op each, or several ops that are always on one device.

    State is where the first op is that uses it, what writes it is there too, and the gradient of a parameter ends
    there. Each device that something is fixed to is an item as well, with no work of its own.

    Attributes:
        parts: the graphs that run one after the other.
        item: name of an op of the whole graph -> a number of its item (`find` gives the one that stands for all).
        owners: name of a piece of state -> likewise, of what decides where it lives.
        fixed: item -> device, where it is known.

    Args:
        captured: the graph and its parts.
        state: input name -> device, of state that lives somewhere already.
        default: the device of state that no op uses.

    Cost: near-linear in the edges.
    """

    def __init__(self, captured: Captured, state: Mapping[str, str], default: str) -> None:
        self.item = {op.name: i for i, op in enumerate(captured.graph.ops)}
        self._leader = list(range(len(self.item)))
        self.fixed: dict[int, str] = {}
        self._devices: dict[str, int] = {}
        self._default = default
        self.owners = {
            name: self.device(state[name]) if name in state else self.item[op] if op else self.device(default)
            for name, op in owner_ops(captured.graph).items()
        }
        paths = {v.path: self.owners[v.name] for v in captured.graph.inputs if v.path and v.name in self.owners}
        known: dict[str, int] = {}
        self.parts = []
        for graph in captured.parts:
            self.parts.append(self._part(graph, {**known, **self.owners, **paths}))
            known.update((value.name, item) for value, item in self.parts[-1].ends)

    def __len__(self) -> int:
        """Numbers that have been given to items."""
        return len(self._leader)

    def find(self, item: int) -> int:
        """The number that stands for all of an item."""
        leader = self._leader
        while leader[item] != item:
            leader[item] = item = leader[leader[item]]
        return item

    def device(self, name: str) -> int:
        """The item that stands for a device."""
        if name not in self._devices:
            item = self._devices[name] = self._new()
            self.fixed[item] = name
        return self._devices[name]

    def _new(self) -> int:
        self._leader.append(len(self._leader))
        return len(self._leader) - 1

    def _part(self, graph: Graph, known: Mapping[str, int]) -> Placed:
        part = Placed(graph, at={v.name: known[v.name] for v in graph.inputs if v.name in known})
        for op in graph.ops:
            found = self.item.get(op.name)
            item = self._new() if found is None else found
            part.ops.append(item)
            for value in op.inputs:
                part.at.setdefault(value.name, item)
            part.at.update((v.name, item) for v in op.outputs)
        for value in graph.inputs:
            if value.name not in part.at:
                part.at[value.name] = self.device(self._default)
        for op, item in zip(graph.ops, part.ops, strict=True):
            if op.mutates:
                self._leader[self.find(item)] = self.find(part.at[op.mutates[0]])
        part.ends.extend((o.value, _end(o, part.at, known)) for o in graph.outputs if isinstance(o.value, Value))
        return part


def _end(output: Output, at: Mapping[str, int], known: Mapping[str, int]) -> int:
    made = at[output.value.name]
    return known.get(output.path, made) if output.kind == "gradient" else made
