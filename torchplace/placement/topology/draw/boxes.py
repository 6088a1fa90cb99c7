"""Boxes: what is joined without a network between. A cluster is drawn by its boxes, and those that are alike once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import networkx as nx

from torchplace.placement.topology.topology import Topology

_NETWORK = "network-switch"


@dataclass(frozen=True)
class Box:
    """Nodes that are joined without a network between.

    Attributes:
        nodes: names of devices and switches, devices first, in the topology's order.
        devices: how many of the nodes are devices.
        prefix: what all of its names begin with, up to the last "/" in common: "node3/".
    """

    nodes: tuple[str, ...]
    devices: int
    prefix: str

    def short(self, name: str) -> str:
        """A name without the prefix, if it is one of this box's."""
        return name.removeprefix(self.prefix) if self.prefix else name


class Boxes:
    """The boxes of a topology, and the network switches between them.

    A network switch is between boxes if only NICs and others like it are plugged into it; one that devices are plugged
    into is a part of their box.

    Cost: near-linear in nodes + links.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._kinds = {switch.name: switch.kind for switch in topology.switches}
        self.order = [*topology.device_names, *self._kinds]
        self.graph: nx.Graph[str] = nx.Graph()
        self.graph.add_nodes_from(self.order)
        self.graph.add_edges_from((link.source, link.target) for link in topology.links)

    @cached_property
    def outside(self) -> tuple[str, ...]:
        """Names of the network switches between the boxes."""
        return tuple(
            name
            for name, kind in self._kinds.items()
            if kind == _NETWORK and all(self._kinds.get(near) in ("nic", _NETWORK) for near in self.graph[name])
        )

    @cached_property
    def boxes(self) -> tuple[Box, ...]:
        """The boxes, in order of their first nodes."""
        inside = self.graph.subgraph(set(self.order) - set(self.outside))
        position = {name: number for number, name in enumerate(self.order)}
        parts = [sorted(part, key=position.__getitem__) for part in nx.connected_components(inside)]
        alone = len(parts) == 1
        return tuple(
            Box(tuple(part), sum(name not in self._kinds for name in part), "" if alone else _prefix(part))
            for part in sorted(parts, key=lambda part: position[part[0]])
        )


def _prefix(names: Iterable[str]) -> str:
    """The longest beginning that all names share and that ends with "/"."""
    first, last = min(names), max(names)
    shared = 0
    while shared < min(len(first), len(last)) and first[shared] == last[shared]:
        shared += 1
    return first[: first.rfind("/", 0, shared) + 1]
