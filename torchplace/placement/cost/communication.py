"""What a transfer between two devices costs: the alpha-beta model over the topology's routes."""

from __future__ import annotations

from torchplace.errors import OptionError
from torchplace.placement.topology.topology import Topology


class AlphaBeta:
    """Time of a transfer with nobody else on the way: latency of its route + bytes / its narrowest bandwidth.

    Hockney, "The communication challenge for MPP" (Parallel Computing 20, 1994). Transfers that share links
    slow each other; that is the simulator's part, not this one's.

    Cost: a search for each source that is asked for (`Topology.route`), then one look-up a call.

    Args:
        topology: where the routes are taken from.
    """

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._cache: dict[tuple[str, str], tuple[float, float]] = {}

    def time(self, source: str, target: str, nbytes: float) -> float:
        """Seconds to move `nbytes` bytes from one device to another; 0 when they are the same.

        A transfer of 0 bytes still costs the latency.

        Raises:
            OptionError: `nbytes` is negative.
            TopologyError: a device is unknown.
        """
        if nbytes < 0:
            raise OptionError(f"nbytes is {nbytes!r}, expected 0 or more bytes")
        alpha, bandwidth = self.parameters(source, target)
        return alpha + nbytes / bandwidth

    def parameters(self, source: str, target: str) -> tuple[float, float]:
        """Latency (s) and bandwidth (bytes/s) between two devices; 0 and infinity when they are the same.

        Raises:
            TopologyError: a device is unknown.
        """
        found = self._cache.get((source, target))
        if found is None:
            route = self.topology.route(source, target)
            found = self._cache[source, target] = (route.latency, route.bandwidth)
        return found

    def matrix(self, nbytes: float) -> list[list[float]]:
        """Seconds to move `nbytes` bytes from each device (row) to each (column), in the topology's order.

        Raises:
            OptionError: `nbytes` is negative.
        """
        names = self.topology.device_names
        return [[self.time(source, target, nbytes) for target in names] for source in names]
