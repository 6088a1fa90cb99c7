"""What a transfer costs at least, whichever two devices it goes between."""

from __future__ import annotations

from itertools import permutations
from math import inf

from torchplace.placement.topology.link import Link
from torchplace.placement.topology.route import Route
from torchplace.placement.topology.topology import Topology

_DEVICES = 32
"""So many devices have all their routes looked at: 992. Of more, only the first and last links of routes count."""


class Wires:
    """The cheapest transfers of a topology.

    Attributes:
        widest: bytes/s of the widest route; infinite where one device sends to none. So many bytes from one device to
            another keep some link busy for bytes / widest, at least.

    Args:
        topology: devices and links.

    Cost: a search for each device, up to 32 of them; linear in the links beyond.
    """

    def __init__(self, topology: Topology) -> None:
        self._known: dict[int, float] = {}
        names = topology.device_names
        if len(names) > _DEVICES:
            self._from_links(topology)
        else:
            routes = (topology.route(*pair) for pair in permutations(names, 2))
            alike = {(r.bandwidth, *((k.latency, k.bandwidth, k.pieces) for k in r.links)): r for r in routes}
            self._routes = list(alike.values())
            self.widest = max((route.bandwidth for route in self._routes), default=inf)

    def _from_links(self, topology: Topology) -> None:
        """Let two links stand for all routes: the best out of a device, and the best into one.

        A link that joins two devices is a route of its own. Where links have pieces, a long route may be quicker than
        a part of it: then transfers take no time.
        """
        devices = set(topology.device_names)
        out = [link for link in topology.links if link.source in devices]
        into = [link for link in topology.links if link.target in devices]
        direct = [link for link in out if link.target in devices]
        first, last = (_best([k for k in ends if k not in set(direct)]) for ends in (out, into))
        ways = [best for best in (_best(direct), first and last and _behind(first, last)) if best]
        self.widest = max((bandwidth for _, bandwidth in ways), default=inf)
        sized = any(link.pieces for link in topology.links)
        self._routes = [] if sized else [Route((_link(*way),)) for way in ways]

    def least(self, nbytes: int) -> float:
        """Seconds that a value of so many bytes takes from one device to another, at least.

        One device sends to none: then no time at all.
        """
        found = self._known.get(nbytes)
        if found is None:
            found = self._known[nbytes] = min((route.time(nbytes) for route in self._routes), default=0.0)
        return found


def _best(links: list[Link]) -> tuple[float, float] | None:
    """The least latency and the largest bandwidth of links, which need not be those of one; None for no links."""
    if not links:
        return None
    return min(link.latency for link in links), max(link.bandwidth for link in links)


def _behind(first: tuple[float, float], last: tuple[float, float]) -> tuple[float, float]:
    return first[0] + last[0], min(first[1], last[1])


def _link(latency: float, bandwidth: float) -> Link:
    return Link("one", "other", "any", bandwidth, latency)
