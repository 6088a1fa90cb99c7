"""What a transfer between two devices costs: the alpha-beta model over the topology's routes."""

from __future__ import annotations

from torchplace.errors import OptionError
from torchplace.placement.topology.route import Route
from torchplace.placement.topology.routing import REFERENCE_BYTES
from torchplace.placement.topology.topology import Topology


class AlphaBeta:
    """Time of a transfer with nobody else on the way: latency of its route + bytes / its narrowest bandwidth.

    Hockney, "The communication challenge for MPP" (Parallel Computing 20, 1994). Both are those for its size, where
    links have pieces (`Route.at`). Transfers that share links slow each other; that is the simulator's part, not this
    one's.

    Cost: a search for each source that is asked for (`Topology.route_like`), then one look-up a call.

    Args:
        topology: where the routes are taken from.
    """

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._cache: dict[tuple[str, str], Route] = {}

    def time(self, source: str, target: str, nbytes: float) -> float:
        """Seconds to move `nbytes` bytes from one device to another; 0 when they are the same.

        A transfer of 0 bytes still costs the latency.

        Raises:
            OptionError: `nbytes` is negative.
            TopologyError: a device is unknown.
        """
        if nbytes < 0:
            raise OptionError(f"nbytes is {nbytes!r}, expected 0 or more bytes")
        alpha, bandwidth = self.parameters(source, target, nbytes)
        return alpha + nbytes / bandwidth

    def parameters(self, source: str, target: str, nbytes: float = REFERENCE_BYTES) -> tuple[float, float]:
        """Latency (s) and bandwidth (bytes/s) between two devices for a size; 0 and infinity when they are the same.

        Raises:
            TopologyError: a device is unknown.
        """
        route = self._cache.get((source, target))
        if route is None:
            route = self._cache[source, target] = self.topology.route_like(source, target)
        return route.at(nbytes)

    def matrix(self, nbytes: float) -> list[list[float]]:
        """Seconds to move `nbytes` bytes from each device (row) to each (column), in the topology's order.

        Raises:
            OptionError: `nbytes` is negative.
        """
        names = self.topology.device_names
        return [[self.time(source, target, nbytes) for target in names] for source in names]
