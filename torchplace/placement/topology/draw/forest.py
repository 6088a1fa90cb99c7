"""A spanning forest of each box: below each switch what hangs on it; links that are not in it stand beside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from torchplace.placement.topology.draw.boxes import Box, Boxes
from torchplace.placement.topology.draw.words import counted, names_text, rate
from torchplace.placement.topology.topology import Topology

# What stands nearer to the root of a drawing; kinds that are not listed come before NICs, devices last.
_RANKS = ("cpu-socket", "host-bridge", "pcie-switch", "host-memory", "network-switch", "nvswitch")
_OTHER, _NIC, _DEVICE = len(_RANKS), len(_RANKS) + 1, len(_RANKS) + 2
_MANY = 8
"""Leaves in a row that are alike and are drawn as the first and the last, unless all are asked for."""


@dataclass(frozen=True)
class Row:
    """A line of a drawing: a node, or one more joint of the node above.

    Attributes:
        name: with the branches before it.
        kind: of the node.
        up: what joins it to the node that it hangs on.
        also: what joins it to others.
    """

    name: str
    kind: str = ""
    up: str = ""
    also: str = ""

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The row as the cells of a table."""
        return self.name, self.kind, self.up, self.also


class Forest:
    """Draws the nodes of boxes as rows.

    Cost: near-linear in nodes + links, but for the sorting of each node's links.
    """

    def __init__(self, topology: Topology, boxes: Boxes) -> None:
        self._boxes = boxes
        self._links = {(link.source, link.target): link for link in topology.links}
        self._kinds = {switch.name: switch.kind for switch in topology.switches}
        self._devices = {device.name: device.kind for device in topology.devices}
        self._position = {name: number for number, name in enumerate(boxes.order)}
        self._parent: dict[str, str] = {}
        self._children: dict[str, list[str]] = {name: [] for name in boxes.order}

    def rows(self, box: Box, full: bool) -> Iterator[Row]:
        """The rows of a box, names without its prefix."""
        yield from self._siblings(box, self._grow(box), "", full, top=True)

    def outside(self) -> Iterator[Row]:
        """A row for each network switch between boxes."""
        for name in self._boxes.outside:
            joints: dict[str, dict[str, int]] = {}
            for near in self._boxes.graph[name]:
                kinds = joints.setdefault(self._joint(name, near), {})
                kind = self._kinds[near]
                kinds[kind] = kinds.get(kind, 0) + 1
            also = [
                f"{joint} to {', '.join(counted(number, kind) for kind, number in kinds.items())}"
                for joint, kinds in joints.items()
            ]
            yield from _beside(Row(name, self._kinds[name]), also, "")

    def _rank(self, node: str) -> int:
        kind = self._kinds.get(node)
        if kind is None:
            return _DEVICE
        return _RANKS.index(kind) if kind in _RANKS else _NIC if kind == "nic" else _OTHER

    def _near(self, node: str) -> list[str]:
        return sorted(self._boxes.graph[node], key=self._position.__getitem__)

    def _grow(self, box: Box) -> list[str]:
        """Takes the highest ranked node left, and its equals around it, as roots; then breadth first."""
        seen: set[str] = set()
        roots: list[str] = []
        for root in sorted(box.nodes, key=self._rank):
            if root not in seen:
                level = self._level(root, seen)
                roots += level
                seen.update(level)
                self._spread(level, seen)
        return roots

    def _level(self, root: str, seen: set[str]) -> list[str]:
        """The node, and the sockets that are linked to it where it is one: they stand beside each other."""
        found = [root]
        if self._kinds.get(root) == _RANKS[0]:
            for one in found:
                near = (other for other in self._near(one) if self._kinds.get(other) == _RANKS[0])
                found += [other for other in near if other not in found and other not in seen]
        return sorted(found, key=self._position.__getitem__)

    def _spread(self, queue: Sequence[str], seen: set[str]) -> None:
        queue, roots = list(queue), set(queue)
        for node in queue:
            # Nothing hangs on a device, and on a NIC only where there is nothing else to hang it on.
            if self._rank(node) == _DEVICE or (self._rank(node) == _NIC and node not in roots):
                continue
            for other in self._near(node):
                if other not in seen and other not in self._boxes.outside:
                    seen.add(other)
                    self._parent[other] = node
                    self._children[node].append(other)
                    queue.append(other)

    def _node(self, box: Box, node: str, head: str, rest: str, full: bool) -> Iterator[Row]:
        children = self._children[node]
        row = self._row(box, node)
        named = Row(head + row.name, row.kind, row.up)
        yield from _beside(named, self._crossing(box, node), rest + ("│" if children else ""))
        yield from self._siblings(box, children, rest, full)

    def _siblings(self, box: Box, nodes: Sequence[str], rest: str, full: bool, top: bool = False) -> Iterator[Row]:
        """The nodes that hang on one node, or all roots; long runs of leaves that are alike as two of them."""
        for _, group in groupby(nodes, key=lambda node: self._sort(box, node)):
            run = list(group)
            short = run if full or len(run) <= _MANY else [run[0], run[-1]]
            for node in short:
                last = node == nodes[-1]
                branch, below = ("", "") if top else ("└─ " if last else "├─ ", "   " if last else "│  ")
                yield from self._node(box, node, rest + branch, rest + below, full)
                if len(short) < len(run) and node == run[0]:
                    yield Row(f"{rest}{'' if top else '│  '}... {len(run) - 2:,} more like it")

    def _sort(self, box: Box, node: str) -> tuple[object, ...]:
        """What leaves are alike in; a node that something hangs on is like no other."""
        row = self._row(box, node)
        leaf = not self._children[node]
        return (row.kind, row.up, tuple(self._crossing(box, node))) if leaf else (node,)

    def _row(self, box: Box, node: str) -> Row:
        kind = self._kinds.get(node) or self._devices[node]
        up = self._joint(node, self._parent[node]) if node in self._parent else ""
        return Row(box.short(node), kind, up)

    def _crossing(self, box: Box, node: str) -> list[str]:
        """The links of a node that the tree does not show, one text for each sort of link."""
        others = [
            other for other in self._near(node) if self._parent.get(node) != other and self._parent.get(other) != node
        ]
        joints = sorted((self._joint(node, other), position) for position, other in enumerate(others))
        return [
            f"{joint} to {names_text([box.short(others[position]) for _, position in group])}"
            for joint, group in groupby(joints, key=lambda pair: pair[0])
        ]

    def _joint(self, one: str, other: str) -> str:
        """The connection of two nodes: kind, and bandwidth, for each way where the two ways differ."""
        there, back = self._links.get((one, other)), self._links.get((other, one))
        if there and back:
            kinds = there.kind if there.kind == back.kind else f"{there.kind} / {back.kind}"
            rates = rate(there.bandwidth)
            if rate(back.bandwidth) != rates:
                rates += f" out, {rate(back.bandwidth)} in"
            return f"{kinds} {rates}"
        only = there or back
        way = "out" if there else "in"
        return f"{only.kind} {rate(only.bandwidth)} {way} only" if only else ""


def sorts(forest: Forest, boxes: Boxes, full: bool = False) -> list[tuple[tuple[Row, ...], list[Box]]]:
    """The drawings of the boxes, each with the boxes of which it is one; one box each where `full`."""
    drawn = [(tuple(forest.rows(box, full)), box) for box in boxes.boxes]
    if full:
        return [(rows, [box]) for rows, box in drawn]
    found: dict[tuple[Row, ...], list[Box]] = {}
    for rows, box in drawn:
        found.setdefault(rows, []).append(box)
    return list(found.items())


def _beside(row: Row, also: Sequence[str], rest: str) -> Iterator[Row]:
    """A row with what else joins it: the first beside it, the others below."""
    yield Row(row.name, row.kind, row.up, also[0] if also else "")
    for text in also[1:]:
        yield Row(rest, also=text)
