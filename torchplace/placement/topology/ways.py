"""Ways: the routes of single copies. What can stay in its box does.

On some machines two GPUs of one box would be served faster by the NICs and the network than by what joins their
sockets, but copies inside a box are the driver's, which knows no network. So a way leaves a box, over switches of kind
"nic" or "network-switch", only where there is none inside.
"""

from __future__ import annotations

from collections.abc import Sequence

from torchplace.placement.topology.link import Link
from torchplace.placement.topology.routing import Network, RouteTable
from torchplace.placement.topology.switch import OUTWARD, Switch


class Ways:
    """Finds the way of a copy between any two nodes, for a topology.

    Cost: one or two searches for each source that is asked for (`RouteTable`), then a look-up and the way's length.

    Args:
        network: nodes and links.
        switches: all switches.
    """

    def __init__(self, network: Network, switches: Sequence[Switch]) -> None:
        self._network = network
        outward = {switch.name for switch in switches if switch.kind in OUTWARD}
        self._inward = [
            forwards and name not in outward for name, forwards in zip(network.names, network.forwards, strict=True)
        ]
        self._near: dict[str, RouteTable] = {}
        # Where nothing leads out of a box, there is one table for both.
        self._far: dict[str, RouteTable] = {} if outward else self._near

    def inside(self, source: str, target: str) -> tuple[Link, ...] | None:
        """The links of the best way inside the box; none to the source itself, None where there is no way."""
        if source not in self._near:
            self._near[source] = RouteTable(self._network, source, self._inward)
        return self._near[source].links(target)

    def best(self, source: str, target: str) -> tuple[Link, ...] | None:
        """The links of the best way inside the box, or else of the best over networks; None where there is none."""
        links = self.inside(source, target)
        if links is not None or self._far is self._near:
            return links
        if source not in self._far:
            self._far[source] = RouteTable(self._network, source)
        return self._far[source].links(target)
