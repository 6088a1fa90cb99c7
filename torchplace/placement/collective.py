"""Collectives: how devices that each hold a value combine it, as transfers."""

from __future__ import annotations

from collections.abc import Callable

from torchplace.placement.traffic import Traffic


class RingAllReduce:
    """A ring all-reduce: 2 (n - 1) steps, in each of which every member sends an n-th of the value to the next.

    Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations" (Journal of Parallel and
    Distributed Computing 69, 2009). A step begins when all transfers of the one before have arrived.

    Cost: 2 n (n - 1) transfers.
    """

    def __init__(self, traffic: Traffic, ring: tuple[str, ...], nbytes: float, done: Callable[[float], None]) -> None:
        """Of `nbytes` bytes on each device of `ring`, in that order; `done` is called at the end."""
        self.traffic, self.ring, self.share, self.done = traffic, ring, nbytes / len(ring), done
        self.steps, self.missing = 2 * (len(ring) - 1), 0

    def step(self, now: float) -> None:
        """Begin the next step, or end."""
        if not self.steps:
            self.done(now)
            return
        self.steps -= 1
        self.missing = len(self.ring)
        for source, target in zip(self.ring, (*self.ring[1:], self.ring[0]), strict=True):
            self.traffic.send(now, source, target, self.share, self._arrived)

    def _arrived(self, now: float) -> None:
        self.missing -= 1
        if not self.missing:
            self.step(now)
