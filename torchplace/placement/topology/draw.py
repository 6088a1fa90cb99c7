"""A topology as plain text: a tree from sockets down to devices, and a matrix as of `nvidia-smi topo -m`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from torchplace.placement.topology.device import Device
from torchplace.placement.topology.link import Link
from torchplace.placement.topology.route import Route
from torchplace.placement.topology.topology import Topology

# What stands nearer to the root of the drawing; kinds that are not listed come after these, devices last.
_RANKS = ("network-switch", "nic", "cpu-socket", "host-memory", "nvswitch", "pcie-switch")

LEGEND = {
    "X": "the device itself",
    "NV#": "that many bonded NVLinks, direct or through NVSwitches",
    "DIR": "one direct link of another kind",
    "PIX": "one PCIe switch",
    "PXB": "several PCIe switches, no socket",
    "PHB": "one socket (PCIe host bridge)",
    "SYS": "more than one socket, over QPI or the like",
    "MEM": "memory that both share",
    "NET": "a network",
    "VIA": "switches of another kind",
}
"""What the codes of `matrix_text` mean; # stands for a number."""


def rate(bandwidth: float) -> str:
    """Bytes/s for people: "12 GB/s", "94.5 MB/s"."""
    return f"{bandwidth / 1e9:.3g} GB/s" if bandwidth >= 1e9 else f"{bandwidth / 1e6:.3g} MB/s"


def _describe(device: Device) -> str:
    flops = device.peak("float32")
    speed = f"{flops / 1e12:.3g} TFLOP/s" if flops >= 1e12 else f"{flops / 1e9:.3g} GFLOP/s"
    return (
        f"{device.name} ({device.kind}, {device.memory / 2**30:.1f} GiB at {rate(device.memory_bandwidth)},"
        f" {speed} float32)"
    )


class _Tree:
    """A spanning forest: below each switch what hangs on it; links that are not in it are cross links."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.links = {(link.source, link.target): link for link in topology.links}
        self.order = [*topology.device_names, *(switch.name for switch in topology.switches)]
        self.near: dict[str, list[str]] = {node: [] for node in self.order}
        for source, target in self.links:
            for one, other in ((source, target), (target, source)):
                if other not in self.near[one]:
                    self.near[one].append(other)
        self.kinds = {switch.name: switch.kind for switch in topology.switches}
        self.children: dict[str, list[str]] = {node: [] for node in self.near}
        self.parent: dict[str, str] = {}
        self.roots: list[str] = []
        self._grow()

    def _rank(self, node: str) -> int:
        kind = self.kinds.get(node)
        if kind is None:
            return len(_RANKS) + 1
        return _RANKS.index(kind) if kind in _RANKS else len(_RANKS)

    def _grow(self) -> None:
        """Takes the highest ranked node left, and its equals around it, as roots; then breadth first."""
        seen: set[str] = set()
        for root in sorted(self.near, key=self._rank):
            if root in seen:
                continue
            roots = [root, *(peer for peer in self._peers(root) if peer not in seen)]
            self.roots += roots
            seen.update(roots)
            self._breadth_first(roots, seen)

    def _peers(self, node: str) -> list[str]:
        """Nodes of the same rank that are linked to it, directly or one through another; no devices."""
        if node not in self.kinds:
            return []
        found = [node]
        for one in found:
            equals = (other for other in self.near[one] if self._rank(other) == self._rank(node))
            found += [other for other in equals if other not in found]
        # Switches of one kind that form a cascade belong below each other, sockets beside each other.
        return found[1:] if self.kinds[node] != "pcie-switch" else []

    def _breadth_first(self, queue: list[str], seen: set[str]) -> None:
        for node in queue:
            for other in self.near[node]:
                if node in self.kinds and other not in seen:
                    seen.add(other)
                    self.parent[other] = node
                    self.children[node].append(other)
                    queue.append(other)

    def label(self, node: str) -> str:
        text = f"{node} ({self.kinds[node]})" if node in self.kinds else _describe(self.topology.device(node))
        return f"{text}, {self.joint(node, self.parent[node])}" if node in self.parent else text

    def joint(self, one: str, other: str) -> str:
        """The connection of two nodes: kind, and bandwidth, for each way where the two ways differ."""
        there, back = self.links.get((one, other)), self.links.get((other, one))
        if there and back:
            kinds = there.kind if there.kind == back.kind else f"{there.kind} / {back.kind}"
            rates = rate(there.bandwidth)
            if there.bandwidth != back.bandwidth:
                rates += f" out, {rate(back.bandwidth)} in"
            return f"{kinds} {rates}"
        only = there or back
        way = "out" if there else "in"
        return f"{only.kind} {rate(only.bandwidth)} {way} only" if only else ""

    def crossing(self, node: str) -> list[str]:
        """Lines on the links of a node that the tree does not show, one for each sort of link."""
        others = [
            other
            for other in sorted(self.near[node], key=self.order.index)
            if self.parent.get(node) != other and self.parent.get(other) != node
        ]
        joints = sorted((self.joint(node, other), position) for position, other in enumerate(others))
        return [
            f"{joint} to {', '.join(others[position] for _, position in group)}"
            for joint, group in groupby(joints, key=lambda pair: pair[0])
        ]

    def lines(self, node: str, head: str, rest: str) -> Iterator[str]:
        yield head + self.label(node)
        children = self.children[node]
        for line in self.crossing(node):
            yield rest + ("│    " if children else "     ") + line
        for child in children:
            last = child is children[-1]
            yield from self.lines(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def draw_text(topology: Topology) -> str:
    """A topology as a tree in plain text: switches, what hangs on them, and each node's other links."""
    tree = _Tree(topology)
    counts = f"{_count(topology.devices, 'device')}, {_count(topology.switches, 'switch')}"
    lines = [f"{topology.name}: {counts}, {_count(topology.links, 'link')} (one for each direction)"]
    for root in tree.roots:
        lines += tree.lines(root, "", "")
    return "\n".join(lines)


def _count(things: Iterable[object], noun: str) -> str:
    number = len(list(things))
    plural = "es" if noun.endswith("ch") else "s"
    return f"{number} {noun}{plural if number != 1 else ''}"


def code(topology: Topology, source: str, target: str) -> str:
    """How one device reaches another, in the codes of `LEGEND`."""
    route = topology.route(source, target)
    if not route.links:
        return "X"
    kinds = {switch.name: switch.kind for switch in topology.switches}
    return _code([kinds[node] for node in route.nodes[1:-1]], route)


def _code(passed: list[str], route: Route) -> str:
    if "network-switch" in passed or "nic" in passed:
        return "NET"
    if "cpu-socket" in passed:
        return "PHB" if passed.count("cpu-socket") == 1 else "SYS"
    if "host-memory" in passed:
        return "MEM"
    if all(link.kind.startswith("nvlink") for link in route.links):
        return f"NV{min(map(_lanes, route.links))}"
    if not passed:
        return "DIR"
    if set(passed) == {"pcie-switch"}:
        return "PIX" if len(passed) == 1 else "PXB"
    return "VIA"


def _lanes(link: Link) -> int:
    return link.lanes


def matrix_text(topology: Topology) -> str:
    """How each device (row) reaches each other (column), as `nvidia-smi topo -m` shows it, with a legend.

    Cost: one route for each pair of devices.
    """
    names = topology.device_names
    rows = [[source, *(code(topology, source, target) for target in names)] for source in names]
    widths = [max(map(len, column)) for column in zip(["", *names], *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [["", *names], *rows]
    ]
    used = {"NV#" if cell.startswith("NV") else cell for row in rows for cell in row[1:]}
    legend = [f"  {key.ljust(3)}  {meaning}" for key, meaning in LEGEND.items() if key in used]
    return "\n".join([*lines, "", *legend])
