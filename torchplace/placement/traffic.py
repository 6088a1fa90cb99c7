"""Traffic: transfers from device to device, in order for each pair of devices."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from torchplace.placement.flows import Flows, Later, Passage
from torchplace.placement.topology.topology import Topology


@dataclass(slots=True)
class Transfer:
    """Bytes from one device to another.

    Attributes:
        nbytes: how many.
        arrived: called with when the first byte left, and when the last arrived.
        begun: when the first byte left.
    """

    nbytes: float
    arrived: Callable[[float, float], None]
    begun: float = 0.0


class Channel:
    """Transfers from one device to another: one after the other, as on a copy stream.

    When the last byte of one has left, the next begins; the latency of the route later (that for its size), the one has
    arrived.

    Attributes:
        names: of the links that it crosses, as timelines have them.
    """

    def __init__(self, source: str, target: str, topology: Topology, flows: Flows, later: Later) -> None:
        route = topology.route(source, target)
        self.names = tuple(link.name for link in route.links)
        self._route, self._flows, self._later = route, flows, later
        self._flow = flows.flow(route, self._left)
        self._queue: deque[Transfer] = deque()  # the first is under way
        self._passage = Passage.of(route, 0)  # of the first

    def send(self, now: float, transfer: Transfer) -> None:
        """Move bytes, behind what was sent before."""
        self._queue.append(transfer)
        if len(self._queue) == 1 and self._next(now):
            self._flows.start(now, self._flow, self._passage.work, self._passage.limit)

    def _next(self, now: float) -> bool:
        """Begin the first transfer of the queue that has bytes: what has none just passes."""
        while self._queue:
            self._queue[0].begun = now
            self._passage = Passage.of(self._route, self._queue[0].nbytes)
            if self._passage.work:
                return True
            self._arrive(now)
        return False

    def _left(self, now: float) -> None:
        self._arrive(now)
        if self._next(now):
            self._flows.again(now, self._flow, self._passage.work, self._passage.limit)
        else:
            self._flows.stop(now, self._flow)

    def _arrive(self, now: float) -> None:
        transfer = self._queue.popleft()
        self._later(now + self._passage.latency, lambda time: transfer.arrived(transfer.begun, time))


class Traffic:
    """Every transfer under way on a topology, and those that wait for their turn.

    Transfers of different pairs of devices flow at the same time and share links (`Flows`).

    Args:
        topology: devices and links.
        later: has something done at a time.
    """

    def __init__(self, topology: Topology, later: Later) -> None:
        self.topology, self.later, self.flows = topology, later, Flows(later)
        self._channels: dict[tuple[str, str], Channel] = {}

    def channel(self, source: str, target: str) -> Channel:
        """The way from one device to another."""
        found = self._channels.get((source, target))
        if found is None:
            found = self._channels[source, target] = Channel(source, target, self.topology, self.flows, self.later)
        return found
