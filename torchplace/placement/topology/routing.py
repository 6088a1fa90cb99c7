"""Finds routes: all the best ways out of one node in one run, and which devices have none.

Devices do not forward: on a hybrid cube mesh a GPU does not relay for its neighbours, and a transfer between
two GPUs without an NVLink goes over PCIe and the host. So a search leaves its source, and then only passes
switches.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Mapping, Sequence

from torchplace.placement.topology.link import Link
from torchplace.placement.topology.route import Route

REFERENCE_BYTES = 1 << 20
"""Bytes of the transfer that a route is chosen for. One route serves every size, as in hardware; 1 MiB is of
the order of an activation, and large enough that bandwidth decides where ways differ in kind."""

# Latencies are added as whole attoseconds: integer sums do not depend on their order, so ways that cost the
# same compare as equal and the number of hops decides, not a rounding error.
_ATTO = 10**18


class Network:
    """Nodes and links with integers for names, in an order that does not depend on how a file lists them."""

    def __init__(self, devices: Sequence[str], switches: Sequence[str], links: Sequence[Link]) -> None:
        self.names = (*sorted(devices), *sorted(switches))
        self.index = {name: number for number, name in enumerate(self.names)}
        self.forwards = [number >= len(devices) for number in range(len(self.names))]
        self.links = sorted(links, key=lambda link: (link.source, link.target))
        self.out: list[list[int]] = [[] for _ in self.names]
        for number, link in enumerate(self.links):
            self.out[self.index[link.source]].append(number)
        self.target = [self.index[link.target] for link in self.links]
        costs = [Route((link,)).at(REFERENCE_BYTES) for link in self.links]
        self.latency = [round(latency * _ATTO) for latency, _ in costs]
        self.bandwidth = [bandwidth for _, bandwidth in costs]


class RouteTable:
    """The best route from one node to every other that can be reached.

    The time of a route is its latencies' sum plus bytes over its narrowest bandwidth, which is no sum over
    links, so a plain shortest path can miss the best. The search therefore keeps, for each node, every way
    that no other beats in both latency and bandwidth (a label), as in multi-criteria shortest paths (Martins,
    "On a multicriteria shortest path problem", EJOR 16, 1984). Labels come off the heap by rising latency, so
    a new one is worth keeping only if it is wider than all before it at that node.

    Cost: O(k m log(k m)) for m links and k labels a node; k is at most the number of different bandwidths,
    and 1 or 2 in machines as they are built. Memory: 8 bytes a label, 8 bytes a node.

    Args:
        network: where to search.
        source: the node that the routes start at.
        forwards: whether each node forwards, by its number; None means what the network says.
    """

    def __init__(self, network: Network, source: str, forwards: Sequence[bool] | None = None) -> None:
        self._network = network
        self._forwards = network.forwards if forwards is None else forwards
        self._link = array("i")
        self._parent = array("i")
        self._best = array("q", [-1]) * len(network.names)
        self._search(network.index[source])

    def _search(self, start: int) -> None:
        network = self._network
        widest = [0.0] * len(network.names)
        best = [(0, 0)] * len(network.names)
        # Fewer hops first, then wider, then by name (the order of the links): ties never depend on chance.
        heap: list[tuple[int, int, float, int, int, int]] = [(0, 0, float("-inf"), -1, -1, start)]
        while heap:
            latency, hops, narrow, link, parent, node = heapq.heappop(heap)
            if -narrow <= widest[node]:
                continue
            widest[node] = -narrow
            label = len(self._link)
            self._link.append(link)
            self._parent.append(parent)
            cost = (latency + round(REFERENCE_BYTES / -narrow * _ATTO), hops)
            if self._best[node] < 0 or cost < best[node]:
                self._best[node], best[node] = label, cost
            if node != start and not self._forwards[node]:
                continue
            for way in network.out[node]:
                step = max(narrow, -network.bandwidth[way])
                entry = (latency + network.latency[way], hops + 1, step, way, label, network.target[way])
                if -step > widest[network.target[way]]:
                    heapq.heappush(heap, entry)

    def links(self, target: str) -> tuple[Link, ...] | None:
        """The links of the best route to `target`, none to the source; None where there is no route."""
        label = self._best[self._network.index[target]]
        if label < 0:
            return None
        path = []
        while self._link[label] >= 0:
            path.append(self._network.links[self._link[label]])
            label = self._parent[label]
        return tuple(reversed(path))


def cost(links: Sequence[Link]) -> tuple[int, int]:
    """What ways are compared by: time of `REFERENCE_BYTES` in attoseconds, then hops; links may be repeated."""
    route = Route(tuple(links))
    latency, narrow = route.at(REFERENCE_BYTES)
    # Where one latency serves all sizes, they are added as a search adds them.
    total = round(latency * _ATTO) if route.by_size else sum(round(link.latency * _ATTO) for link in links)
    return total + round(REFERENCE_BYTES / narrow * _ATTO), len(links)


class SwitchGraph:
    """Which switches lead to which: their graph, contracted to its strongly connected components.

    Links with an end that is none of the switches are left out.
    """

    def __init__(self, switches: Iterable[str], links: Iterable[Link]) -> None:
        import networkx as nx  # heavy, and needed by neither a plan nor a run

        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(switches)
        known = set(graph)
        graph.add_edges_from((link.source, link.target) for link in links if {link.source, link.target} <= known)
        condensed = nx.condensation(graph)
        members: Mapping[int, set[str]] = nx.get_node_attributes(condensed, "members")
        # Each component (its switches, and those that it leads to), the last ones first.
        self._components = [
            (number, members[number], list(condensed.successors(number)))
            for number in reversed(list(nx.topological_sort(condensed)))
        ]

    def spread(self, own: Mapping[str, int]) -> dict[str, int]:
        """For each switch, the union of the bit masks `own` of the switches that it leads to, itself included.

        Cost: linear in switches and links.
        """
        masks: dict[int, int] = {}
        found: dict[str, int] = {}
        for number, switches, after in self._components:
            mask = 0
            for switch in switches:
                mask |= own.get(switch, 0)
            for other in after:
                mask |= masks[other]
            masks[number] = mask
            found.update(dict.fromkeys(switches, mask))
        return found


class Ports:
    """How devices are joined to switches and to each other, with bit masks for sets of devices.

    Attributes:
        bit: the bit of each device.
        direct: the devices that each device has a link to, itself included.
        exits: the switches that each device has a link to.
        feeds: the devices that each switch has a link to.
    """

    def __init__(self, devices: Sequence[str], links: Iterable[Link]) -> None:
        self.bit = {name: 1 << number for number, name in enumerate(devices)}
        self.direct = dict(self.bit)
        self.exits: dict[str, list[str]] = {name: [] for name in devices}
        self.feeds: dict[str, int] = {}
        for link in links:
            if link.source in self.bit and link.target in self.bit:
                self.direct[link.source] |= self.bit[link.target]
            elif link.source in self.bit:
                self.exits[link.source].append(link.target)
            elif link.target in self.bit:
                self.feeds[link.source] = self.feeds.get(link.source, 0) | self.bit[link.target]

    def through(self, device: str, seen: Mapping[str, int]) -> int:
        """The union of what a device's own switches have in `seen`."""
        mask = 0
        for switch in self.exits[device]:
            mask |= seen.get(switch, 0)
        return mask

    def missing(self, reach: Mapping[str, int]) -> dict[str, list[str]]:
        """The devices that are not in the mask of a device, by device; those that lack none are left out."""
        everybody = (1 << len(self.bit)) - 1
        return {
            name: [other for other, bit in self.bit.items() if not mask & bit]
            for name, mask in reach.items()
            if mask != everybody
        }


def unreachable(devices: Sequence[str], switches: Iterable[str], links: Sequence[Link]) -> dict[str, list[str]]:
    """Devices that a device has no route to, by device; empty when every pair is connected.

    Cost: near-linear in nodes + links. The switches' graph is contracted to its strongly connected
    components, and each component's set of devices (a bit mask) is the union of those after it.
    """
    ports = Ports(devices, links)
    seen = SwitchGraph(switches, links).spread(ports.feeds)
    return ports.missing({name: ports.direct[name] | ports.through(name, seen) for name in devices})
