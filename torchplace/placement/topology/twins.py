"""Twins: boxes of a cluster that are built alike, so that a route is searched once for all of them.

A box is what hangs together without the switches of kind "network-switch". Two boxes are twins if they have the same
nodes and links, but for what all names of a box begin with, and the same links to network switches. To swap twins
changes nothing, so the best way between two boxes is also that between any two boxes like them, renamed. Where ways
cost the same, names decide (`routing.Network`), and those are in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from torchplace.placement.topology.device import Device
from torchplace.placement.topology.link import Link
from torchplace.placement.topology.switch import NETWORK_SWITCH, Switch

_Shape = tuple[object, ...]


class Twins:
    """Says whose route stands for which, in one topology.

    Cost: near-linear in nodes and links; then a few look-ups a pair.

    Args:
        devices: all devices.
        switches: all switches.
        links: all links.
    """

    def __init__(self, devices: Sequence[Device], switches: Sequence[Switch], links: Sequence[Link]) -> None:
        self._links = {(link.source, link.target): link for link in links}
        networks = [switch.name for switch in switches if switch.kind == NETWORK_SWITCH]
        roles: dict[str, object] = {device.name: device.peer_to_peer for device in devices}
        roles.update((switch.name, switch.kind) for switch in switches)
        self._box: dict[str, int] = {}
        self._prefix: list[str] = []
        self._first: list[int] = []
        self._second: list[int] = []
        if networks:
            self._find_boxes(roles, set(networks))
            self._compare(roles, networks)

    def _find_boxes(self, roles: Iterable[str], networks: set[str]) -> None:
        near: dict[str, list[str]] = {name: [] for name in roles}
        for source, target in self._links:
            if source not in networks and target not in networks:
                near[source].append(target)
                near[target].append(source)
        for name in near:
            if name not in self._box and name not in networks:
                members = _reached(name, near)
                self._box.update(dict.fromkeys(members, len(self._prefix)))
                self._prefix.append(_common_start(members))

    def _compare(self, roles: dict[str, object], networks: list[str]) -> None:
        """Find the first box like each, and the second."""
        parts: list[list[_Shape]] = [[] for _ in self._prefix]
        for name, box in self._box.items():
            parts[box].append(("node", self._short(name), roles[name]))
        for link in self._links.values():
            ends = self._short(link.source), self._short(link.target)
            inside = {self._box[name] for name in (link.source, link.target) if name in self._box}
            for box in inside:
                parts[box].append(("link", *ends, link.bandwidth, link.latency, link.pieces))
        alike: dict[_Shape, list[int]] = {}
        for box, part in enumerate(parts):
            alike.setdefault((*self._order(box, networks), *sorted(part, key=repr)), []).append(box)
        like = {box: boxes for boxes in alike.values() for box in boxes}
        self._first = [like[box][0] for box in range(len(parts))]
        self._second = [like[box][min(1, len(like[box]) - 1)] for box in range(len(parts))]

    def _order(self, box: int, networks: list[str]) -> Iterator[object]:
        """How a box's names stand to those of network switches: twins' must stand in the same order."""
        start = self._prefix[box]
        return (box if name.startswith(start) else start < name for name in networks)

    def _short(self, name: str) -> tuple[bool, str]:
        """A name without what the names of its box begin with; whether it is in one."""
        box = self._box.get(name)
        return (False, name) if box is None else (True, name[len(self._prefix[box]) :])

    def pair(self, source: str, target: str) -> tuple[str, str]:
        """The pair of nodes whose route, renamed, is that of a pair; mostly another one, in the first boxes alike."""
        here, there = self._box.get(source), self._box.get(target)
        if here is None or there is None:
            return source, target
        first, last = self._first[here], self._first[there]
        if here != there and first == last:
            last = self._second[there]  # there are two, for these are
        return self._renamed(source, here, first), self._renamed(target, there, last)

    def translated(self, links: Iterable[Link], source: str, target: str) -> tuple[Link, ...] | None:
        """The route of a pair, from the links of the route that stands for it; None where that passes other boxes."""
        like = self.pair(source, target)
        boxes = {self._box[a]: self._box[b] for a, b in zip(like, (source, target), strict=True)}
        found = tuple(self._translate(links, boxes))
        return None if None in found else found  # type: ignore[return-value]

    def _translate(self, links: Iterable[Link], boxes: dict[int, int]) -> Iterator[Link | None]:
        for link in links:
            ends = []
            for name in (link.source, link.target):
                box = self._box.get(name)
                if box is not None and box not in boxes:
                    yield None
                    return
                ends.append(name if box is None else self._renamed(name, box, boxes[box]))
            yield self._links[ends[0], ends[1]]

    def _renamed(self, name: str, box: int, other: int) -> str:
        return name if box == other else self._prefix[other] + name[len(self._prefix[box]) :]


def _reached(start: str, near: dict[str, list[str]]) -> list[str]:
    """All nodes that hang together with one."""
    found, waiting = {start: None}, [start]
    while waiting:
        for name in near[waiting.pop()]:
            if name not in found:
                found[name] = None
                waiting.append(name)
    return list(found)


def _common_start(names: Sequence[str]) -> str:
    """What all names begin with."""
    first, last = min(names), max(names)
    return first[: next((i for i, pair in enumerate(zip(first, last, strict=False)) if len(set(pair)) > 1), len(first))]
