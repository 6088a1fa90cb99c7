"""Co-running: segments that run at the same time on devices that slow each other."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import NamedTuple

from torchplace.placement.flows import Later
from torchplace.placement.topology.corun import CoRun


class Load(NamedTuple):
    """What is to be computed: seconds that it takes alone, what it asks for meanwhile, and its grip (see `CoRun`)."""

    seconds: float
    demand: float = 1.0
    grip: float = 0.0

    def longer(self, seconds: float) -> Load:
        """With so many seconds more that keep the host busy."""
        if not seconds:
            return self
        total = self.seconds + seconds
        parts = ((self.demand * self.seconds + seconds) / total, (self.grip * self.seconds + seconds) / total)
        return Load(total, *parts)


class _Work:
    """A segment at work: seconds that it would still take alone, its speed since when, and its end at that speed."""

    __slots__ = ("demand", "done", "end", "grip", "left", "rate", "since")

    def __init__(self, load: Load, now: float, done: Callable[[float], None]) -> None:
        self.left, self.demand, self.grip, self.since, self.done = *load, now, done
        self.rate, self.end = 0.0, inf

    def go_on(self, now: float, rate: float) -> None:
        """Continue at another speed."""
        self.left = max(0.0, self.left - self.rate * (now - self.since))
        self.rate, self.since, self.end = rate, now, now + self.left / rate


class CoRunning:
    """What runs on the devices of one `CoRun` group; speeds change only when a segment begins or ends.

    Cost: the number of devices that run, at each begin and end.
    """

    def __init__(self, group: CoRun, later: Later) -> None:
        """Nothing runs yet; `later` has something done at a time."""
        self.group, self.later = group, later
        self._running: dict[_Work, None] = {}
        self._next = inf  # the first end, announced for then

    def run(self, now: float, load: Load, done: Callable[[float], None]) -> None:
        """Run a load; `done` is called at its end."""
        self._running[_Work(load, now, done)] = None
        self._share(now)

    def _share(self, now: float) -> None:
        demand, grip = sum(work.demand for work in self._running), sum(work.grip for work in self._running)
        for work in self._running:
            rate = 1 / self.group.factor(len(self._running), demand, work.grip, grip - work.grip)
            if rate != work.rate:
                work.go_on(now, rate)
        first = min((work.end for work in self._running), default=inf)
        if first < inf and first != self._next:
            self.later(first, self._over)
        self._next = first

    def _over(self, now: float) -> None:
        """What was announced for a time has come, unless speeds have changed since."""
        if now != self._next:
            return
        ended = [work for work in self._running if work.end <= now]
        for work in ended:
            del self._running[work]
        self._next = inf  # what is left may end now, too, at its new speed: that has to be announced again
        self._share(now)
        for work in ended:
            work.done(now)
