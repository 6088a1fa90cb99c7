"""Co-running: segments that run at the same time on devices that slow each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torchplace.placement.topology.corun import CoRun
from torchplace.placement.traffic import Later


class Load(NamedTuple):
    """What is to be computed: seconds that it takes alone, what it asks for meanwhile, and its grip (see `CoRun`)."""

    seconds: float
    demand: float = 1.0
    grip: float = 0.0


class _Work:
    """A segment at work: seconds that it would still take alone, and its speed now."""

    __slots__ = ("demand", "done", "grip", "left", "rate", "since", "version")

    def __init__(self, load: Load, now: float, done: Callable[[float], None]) -> None:
        self.left, self.demand, self.grip, self.since, self.done = *load, now, done
        self.rate, self.version = 0.0, 0


class CoRunning:
    """What runs on the devices of one `CoRun` group; speeds change only when a segment begins or ends.

    Cost: the number of devices that run, at each begin and end.
    """

    def __init__(self, group: CoRun, later: Later) -> None:
        """Nothing runs yet; `later` has something done at a time."""
        self.group, self.later = group, later
        self._running: dict[_Work, None] = {}

    def run(self, now: float, load: Load, done: Callable[[float], None]) -> None:
        """Run a load; `done` is called at its end."""
        self._running[_Work(load, now, done)] = None
        self._share(now)

    def _share(self, now: float) -> None:
        demand, grip = sum(work.demand for work in self._running), sum(work.grip for work in self._running)
        for work in self._running:
            rate = 1 / self.group.factor(len(self._running), demand, work.grip, grip - work.grip)
            if work.rate != rate:
                self._set_rate(now, work, rate)

    def _set_rate(self, now: float, work: _Work, rate: float) -> None:
        work.left = max(0.0, work.left - work.rate * (now - work.since))
        work.rate, work.since = rate, now
        work.version += 1
        version = work.version

        def end(time: float) -> None:
            if work.version == version:
                del self._running[work]
                self._share(time)
                work.done(time)

        self.later(now + work.left / rate, end)
