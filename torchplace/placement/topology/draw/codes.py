"""How two nodes reach each other, in the codes of `nvidia-smi topo -m`, and some more for what it does not know."""

from __future__ import annotations

from torchplace.placement.topology.route import Route
from torchplace.placement.topology.switch import CPU_SOCKET, HOST_BRIDGE, HOST_MEMORY, OUTWARD
from torchplace.placement.topology.topology import Topology

LEGEND = {
    "X": "the node itself",
    "NV#": "# bonded NVLinks, direct or through NVSwitches",
    "DIR": "one direct link of another kind",
    "PIX": "at most one PCIe switch",
    "PXB": "several PCIe switches, no host bridge",
    "PHB": "one PCIe host bridge (the CPU)",
    "NODE": "several host bridges of one NUMA node",
    "SYS": "several NUMA nodes (sockets), over QPI, UPI or the like",
    "MEM": "memory that both share",
    "NET": "a network",
    "VIA": "switches of another kind",
}
"""What the codes mean; # stands for a number. DIR, MEM, NET and VIA are this project's own."""

_DIRECT = {"pcie": "PIX", "memory": "MEM"}


class Codes:
    """Names the routes of a topology. Cost: a route for each pair that is asked for."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._kinds = {switch.name: switch.kind for switch in topology.switches}

    def of(self, source: str, target: str) -> str:
        """The code of a pair of devices or switches: "NV2", "SYS"."""
        return self.name(self._topology.route(source, target))

    def name(self, route: Route) -> str:
        """The code of a route."""
        if not route.links:
            return "X"
        passed = [(node, self._kinds[node]) for node in dict.fromkeys(route.nodes[1:-1])]
        kinds = [kind for _, kind in passed]
        if any(kind in OUTWARD for kind in kinds):
            return "NET"
        return self._inside(kinds) or self._across(kinds, route)

    def _inside(self, kinds: list[str]) -> str | None:
        """How many CPUs are on the way, if any."""
        if kinds.count(CPU_SOCKET) > 1:
            return "SYS"
        if kinds.count(HOST_BRIDGE) > 1:
            return "NODE"
        if CPU_SOCKET in kinds or HOST_BRIDGE in kinds:
            return "PHB"
        return "MEM" if HOST_MEMORY in kinds else None

    @staticmethod
    def _across(kinds: list[str], route: Route) -> str:
        if all(link.kind.startswith("nvlink") for link in route.links):
            return f"NV{min(link.lanes for link in route.links)}"
        if not kinds:
            return _DIRECT.get(route.links[0].kind.partition("-")[0].rstrip("0123456789"), "DIR")
        if set(kinds) == {"pcie-switch"}:
            return "PIX" if len(kinds) == 1 else "PXB"
        return "VIA"


def code(topology: Topology, source: str, target: str) -> str:
    """The code of one pair; `Codes` is for many."""
    return Codes(topology).of(source, target)
