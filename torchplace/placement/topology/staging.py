"""Staging: how data move where a device cannot do peer-to-peer, as consumer GPUs cannot over PCIe.

Such a device exchanges data with host memory alone, a switch of kind "host-memory" of its own box: one that is not
behind a NIC or a network switch. So a transfer from it or to it is copied there and onwards; between two boxes, both of
whose devices are such, it is staged in both. The driver cuts it into chunks and pipelines the copies, so the narrowest
link sets the rate, and the links of all copies make one route. Each copy takes the way that it would take alone. Of
several memories the one is taken with which the whole is fastest for `REFERENCE_BYTES`. A direct link between two
devices (an NVLink bridge) needs none of this, and is always taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from torchplace.placement.topology.device import Device
from torchplace.placement.topology.link import Link
from torchplace.placement.topology.routing import Ports, SwitchGraph, cost
from torchplace.placement.topology.switch import HOST_MEMORY, OUTWARD, Switch
from torchplace.placement.topology.ways import Ways

_Way = tuple[str, tuple[Link, ...]]


class Staging:
    """Finds the routes of devices that cannot do peer-to-peer.

    Cost: one search within its box for each such device and each host memory, and one over networks for each host
    memory whose box is left; then m^2 comparisons a pair for m host memories in a box, 1 or 2 in machines as they are
    built.

    Args:
        ways: the ways of single copies.
        devices: all devices.
        switches: all switches.
        links: all links.
    """

    def __init__(
        self, ways: Ways, devices: Sequence[Device], switches: Sequence[Switch], links: Sequence[Link]
    ) -> None:
        self._ways = ways
        self._alone = {device.name for device in devices if not device.peer_to_peer}
        self._devices = {device.name for device in devices}
        self._direct = {(link.source, link.target): link for link in links} if self._alone else {}
        self._memories = sorted(switch.name for switch in switches if switch.kind == HOST_MEMORY)
        self._cache: dict[tuple[str, bool], list[_Way]] = {}

    def stages(self, source: str, target: str) -> bool:
        """Whether what goes from `source` to `target` is staged, or has a direct link to take instead."""
        pair = {source, target}
        return len(pair) == 2 and pair <= self._devices and not pair.isdisjoint(self._alone)

    def links(self, source: str, target: str) -> tuple[Link, ...] | None:
        """The links of the best staged route, or the direct link; None where there is neither."""
        direct = self._direct.get((source, target))
        if direct is not None:
            return (direct,)
        return min(self._staged(source, target), key=cost, default=None)

    def _staged(self, source: str, target: str) -> Iterator[tuple[Link, ...]]:
        for first, before in self._ends(source, leaving=True):
            for last, after in self._ends(target, leaving=False):
                between = self._ways.best(first, last)
                if between is not None:
                    yield before + between + after

    def _ends(self, device: str, leaving: bool) -> list[_Way]:
        """Where the middle part of a route may begin (or end), and the links from (or to) the device."""
        if device not in self._alone:
            return [(device, ())]
        key = (device, leaving)
        if key not in self._cache:
            pairs = [(device, memory) if leaving else (memory, device) for memory in self._memories]
            found = [self._ways.inside(*pair) for pair in pairs]
            self._cache[key] = [
                (memory, links) for memory, links in zip(self._memories, found, strict=True) if links is not None
            ]
        return self._cache[key]


def unstaged(devices: Sequence[Device], switches: Sequence[Switch], links: Sequence[Link]) -> dict[str, list[str]]:
    """Devices that a device has no route to, by device, where some cannot do peer-to-peer.

    Cost: near-linear in nodes + links, as of `unreachable`.
    """
    names = [device.name for device in devices]
    ports = Ports(names, links)
    everywhere = SwitchGraph((switch.name for switch in switches), links)
    nearby = SwitchGraph((switch.name for switch in switches if switch.kind not in OUTWARD), links)
    memories = [switch.name for switch in switches if switch.kind == HOST_MEMORY]
    peers = _mask(ports.bit[device.name] for device in devices if device.peer_to_peer)
    far, near = everywhere.spread(ports.feeds), nearby.spread(ports.feeds)
    # What a switch leads to, when the last copy has to start in a host memory, for those that cannot do without.
    staged = everywhere.spread({memory: near[memory] for memory in memories})
    onwards = {switch: (far[switch] & peers) | (staged[switch] & ~peers) for switch in far}
    leaving = nearby.spread({memory: onwards[memory] for memory in memories})
    return ports.missing(
        {
            device.name: ports.direct[device.name]
            | ports.through(device.name, onwards if device.peer_to_peer else leaving)
            for device in devices
        }
    )


def _mask(bits: Iterable[int]) -> int:
    mask = 0
    for bit in bits:
        mask |= bit
    return mask
