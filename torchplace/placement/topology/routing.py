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
        self.latency = [round(link.latency * _ATTO) for link in self.links]
        self.bandwidth = [link.bandwidth for link in self.links]


class RouteTable:
    """The best route from one node to every other that can be reached.

    The time of a route is its latencies' sum plus bytes over its narrowest bandwidth, which is no sum over
    links, so a plain shortest path can miss the best. The search therefore keeps, for each node, every way
    that no other beats in both latency and bandwidth (a label), as in multi-criteria shortest paths (Martins,
    "On a multicriteria shortest path problem", EJOR 16, 1984). Labels come off the heap by rising latency, so
    a new one is worth keeping only if it is wider than all before it at that node.

    Cost: O(k m log(k m)) for m links and k labels a node; k is at most the number of different bandwidths,
    and 1 or 2 in machines as they are built. Memory: 8 bytes a label, 8 bytes a node.
    """

    def __init__(self, network: Network, source: str) -> None:
        self._network = network
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
            if node != start and not network.forwards[node]:
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


def unreachable(devices: Sequence[str], switches: Iterable[str], links: Iterable[Link]) -> dict[str, list[str]]:
    """Devices that a device has no route to, by device; empty when every pair is connected.

    Cost: near-linear in nodes + links. The switches' graph is contracted to its strongly connected
    components, and each component's set of devices (a bit mask) is the union of those after it.
    """
    import networkx as nx  # heavy, and needed by neither a plan nor a run

    bit = {name: 1 << number for number, name in enumerate(devices)}
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(switches)
    seen = dict.fromkeys(graph, 0)
    exits: dict[str, list[str]] = {name: [] for name in devices}
    reach = dict(bit)
    for link in links:
        if link.source in bit and link.target in bit:
            reach[link.source] |= bit[link.target]
        elif link.source in bit:
            exits[link.source].append(link.target)
        elif link.target in bit:
            seen[link.source] |= bit[link.target]
        else:
            graph.add_edge(link.source, link.target)
    _spread(nx.condensation(graph), seen)
    everybody = (1 << len(bit)) - 1
    for name, ways in exits.items():
        for way in ways:
            reach[name] |= seen[way]
    return {
        name: [other for other in devices if not mask & bit[other]] for name, mask in reach.items() if mask != everybody
    }


def _spread(components: object, seen: dict[str, int]) -> None:
    """Gives each switch the devices of all switches that it reaches; `components` is a condensation."""
    import networkx as nx

    graph: nx.DiGraph[int] = components  # type: ignore[assignment]
    members: Mapping[int, set[str]] = nx.get_node_attributes(graph, "members")
    masks: dict[int, int] = {}
    for component in reversed(list(nx.topological_sort(graph))):
        mask = 0
        for switch in members[component]:
            mask |= seen[switch]
        for after in graph.successors(component):
            mask |= masks[after]
        masks[component] = mask
        for switch in members[component]:
            seen[switch] = mask
