"""Co-running: segments that run at the same time on devices that slow each other."""

from __future__ import annotations

from collections.abc import Callable

from torchplace.placement.topology.corun import CoRun
from torchplace.placement.traffic import Later


class _Work:
    """A segment at work: seconds that it would still take alone, and its speed now."""

    __slots__ = ("demand", "done", "left", "rate", "since", "version")

    def __init__(self, seconds: float, demand: float, now: float, done: Callable[[float], None]) -> None:
        self.left, self.demand, self.since, self.done = seconds, demand, now, done
        self.rate, self.version = 0.0, 0


class CoRunning:
    """What runs on the devices of one `CoRun` group; speeds change only when a segment begins or ends.

    Cost: the number of devices that run, at each begin and end.
    """

    def __init__(self, group: CoRun, later: Later) -> None:
        """Nothing runs yet; `later` has something done at a time."""
        self.group, self.later = group, later
        self._running: dict[_Work, None] = {}

    def run(self, now: float, seconds: float, demand: float, done: Callable[[float], None]) -> None:
        """Run what takes `seconds` alone, and asks for `demand` meanwhile; `done` is called at its end."""
        self._running[_Work(seconds, demand, now, done)] = None
        self._share(now)

    def _share(self, now: float) -> None:
        demand = sum(work.demand for work in self._running)
        rate = self.group.rate(len(self._running), demand) if self._running else 1.0
        for work in self._running:
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
