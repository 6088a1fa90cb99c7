"""Flows: bytes under way over links that they share max-min fairly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heapreplace
from math import inf
from typing import NamedTuple, Protocol

from torchplace.placement.topology.link import Link
from torchplace.placement.topology.route import Route

_ROUNDING = 1e-12
"""Rates that differ by no more than this share of them count as equal."""

Later = Callable[[float, Callable[[float], None]], None]
"""Has something done at a time: it is called with that time."""


class Passage(NamedTuple):
    """How one transfer passes a route: what it is seen as by links that know no sizes.

    Attributes:
        latency: seconds from when its last byte leaves to when that arrives.
        work: bytes that its links see; fewer than it has where it is quicker than its links alone.
        limit: bytes/s that it gets at most; infinite where its links alone decide.
    """

    latency: float
    work: float
    limit: float = inf

    @classmethod
    def of(cls, route: Route, nbytes: float) -> Passage:
        """That of `nbytes` bytes. Alone on its links it takes what `Route.time` says."""
        if not route.by_size:
            return cls(route.latency, nbytes)
        latency, bandwidth = route.at(nbytes)
        if bandwidth < route.bandwidth:
            return cls(latency, nbytes, bandwidth)
        return cls(latency, nbytes * route.bandwidth / bandwidth)


class Holder(Protocol):
    """Something that keeps a wire busy without flows on it, as long as it is alone there (`Ring`)."""

    def give_way(self, now: float) -> None:
        """Go on with flows, for somebody else needs the wire."""


class Wire:
    """A link as flows see it: who is on it, and how many times each crosses it."""

    __slots__ = ("capacity", "flows", "holder", "left", "users")

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self.flows: dict[Flow, int] = {}
        self.holder: Holder | None = None
        self.left, self.users = (
            0.0,
            0,
        )  # while rates are worked out: bytes/s not given away, and crossings without a rate


class Flow:
    """Bytes that go over a route, once or again and again; at rest in between.

    Attributes:
        wires: what it crosses, and how many times.
        alone: bytes/s that it gets where nobody else is, and nothing limits it.
        valve: a wire of its own, as wide as its limit; None for a flow that never has one.
        done: called with the time at which its last byte has left.
        held: the wire that holds its rate down; None until that has been worked out.
    """

    __slots__ = ("alone", "done", "end", "held", "left", "rate", "since", "valve", "wires")

    def __init__(
        self, wires: tuple[tuple[Wire, int], ...], done: Callable[[float], None], valve: Wire | None = None
    ) -> None:
        self.wires = wires if valve is None else (*wires, (valve, 1))
        self.done, self.valve = done, valve
        self.alone = min((wire.capacity / times for wire, times in wires), default=inf)
        self.left, self.rate, self.since, self.end = 0.0, 0.0, 0.0, inf
        self.held: Wire | None = None

    def over(self, now: float) -> None:
        """What was announced for a time has come, unless the rate has changed since."""
        if self.end == now:
            self.end = inf
            self.done(now)


class Flows:
    """All flows of a topology.

    Links that several cross are shared max-min fairly: nobody's rate can grow without that of somebody slower falling
    (progressive filling; Bertsekas and Gallager, "Data networks", 2nd ed., section 6.5.2).

    Cost: a flow that meets nobody costs the length of its route. Where flows join or leave others, the rates of those
    that a link holds down which they share, directly or over others, are worked out anew, once for all that happens at
    one time: O(c log c) for c crossings of links by them, and as many as cross those links too.

    Args:
        later: has something done at a time.
    """

    def __init__(self, later: Later) -> None:
        self.later = later
        self._wires: dict[Link, Wire] = {}
        self._changed: dict[Wire, None] = {}

    def flow(self, route: Route, done: Callable[[float], None]) -> Flow:
        """A flow over a route, at rest; `done` is called at each of its ends."""
        crossed = Counter(map(self._wire, route.links))
        return Flow(tuple(crossed.items()), done, Wire(inf) if route.by_size else None)

    def _wire(self, link: Link) -> Wire:
        if link not in self._wires:
            self._wires[link] = Wire(link.bandwidth)
        return self._wires[link]

    def start(self, now: float, flow: Flow, nbytes: float, limit: float = inf) -> None:
        """Let bytes flow, at a rate of `limit` bytes/s at most."""
        if flow.valve is not None:
            flow.valve.capacity = limit
        for wire, _ in flow.wires:
            if wire.holder is not None:
                wire.holder.give_way(now)
        flow.left, flow.since, flow.rate, flow.held = nbytes, now, 0.0, None
        met = [wire for wire, _ in flow.wires if wire.flows]
        for wire, times in flow.wires:
            wire.flows[flow] = times
        if met:
            self._touch(now, met)
        else:
            self._set_rate(now, flow, min(flow.alone, limit))

    def again(self, now: float, flow: Flow, nbytes: float, limit: float = inf) -> None:
        """Let more bytes flow behind those that have just left, without giving the links up.

        Nobody's rate changes, unless the limit does.
        """
        flow.left, flow.since = nbytes, now
        flow.end = now + nbytes / flow.rate
        self.later(flow.end, flow.over)
        if flow.valve is not None and flow.valve.capacity != limit:
            flow.valve.capacity, flow.held = limit, None
            self._touch(now, [flow.valve])

    def stop(self, now: float, flow: Flow) -> None:
        """Take a flow off its links."""
        flow.end = inf
        for wire, _ in flow.wires:
            del wire.flows[flow]
        self._touch(now, [wire for wire, _ in flow.wires if wire.flows])

    def _touch(self, now: float, wires: list[Wire]) -> None:
        """Have rates worked out anew, when all that happens at this time has happened."""
        if wires and not self._changed:
            self.later(now, self._settle)
        self._changed.update(dict.fromkeys(wires))

    def _settle(self, now: float) -> None:
        changed, self._changed = self._changed, {}
        for flow, rate in fair_rates(changed).items():
            if rate != flow.rate:
                self._set_rate(now, flow, rate)

    def _set_rate(self, now: float, flow: Flow, rate: float) -> None:
        flow.left = max(0.0, flow.left - flow.rate * (now - flow.since))
        flow.rate, flow.since = rate, now
        flow.end = now + flow.left / rate
        self.later(flow.end, flow.over)


def fair_rates(changed: Iterable[Wire]) -> dict[Flow, float]:
    """The max-min fair rates of the flows that a change on some wires moves, in bytes/s; the others keep theirs.

    Every flow is held down by one wire, which is full, and on which nobody is faster. So whoever crosses no wire that
    holds a moving flow, and is not held by a wire that a moving flow crosses, stays as it is (bottleneck structures;
    Ros-Giralt and others, "On the bottleneck structure of congestion-controlled networks", Proceedings of the ACM on
    Measurement and Analysis of Computing Systems 3, 2019). If a wire comes out as full that somebody faster crosses,
    held elsewhere, all on it move, and the rates are worked out once more.

    Args:
        changed: wires that flows have joined or left. Flows that have no rate are on these.
    """
    opened: set[Wire] = set()
    while True:
        moving, wires = _moved(changed, opened)
        for wire in wires:
            wire.left = wire.capacity - sum([f.rate * n for f, n in wire.flows.items() if f not in moving])
        held, full = _fill(moving, wires)
        if full is None:
            for flow, (_, wire) in held.items():
                flow.held = wire
            return {flow: rate for flow, (rate, _) in held.items()}
        opened.add(full)


def _moved(changed: Iterable[Wire], opened: set[Wire]) -> tuple[set[Flow], list[Wire]]:
    """The flows that may move, all on `opened` wires among them; and the wires that they cross, `users` counted."""
    found = list(changed)
    moving, known = set[Flow](), set(found)
    for wire in found:
        wire.users = 0
    for wire in found:  # grows meanwhile
        everybody = wire in opened
        for flow in wire.flows:
            if (everybody or flow.held is wire or flow.held is None) and flow not in moving:
                moving.add(flow)
                for other, times in flow.wires:
                    if other not in known:
                        known.add(other)
                        found.append(other)
                        other.users = 0
                    other.users += times
    return moving, [wire for wire in found if wire.users]


def _fill(moving: set[Flow], wires: list[Wire]) -> tuple[dict[Flow, tuple[float, Wire]], Wire | None]:
    """The rate of each moving flow, and the wire that holds it; and a full wire on which another is faster, if any.

    The wire that gives least to each crossing fills up first, and settles the flows on it; what others have left for
    the rest can only grow by that, so a heap of shares that are out of date is read safely.
    """
    held: dict[Flow, tuple[float, Wire]] = {}
    heap = [(wire.left / wire.users, i, wire) for i, wire in enumerate(wires)]
    heapify(heap)
    while len(held) < len(moving):
        share, i, wire = heap[0]
        if not wire.users:
            heappop(heap)
            continue
        if wire.left / wire.users > share:
            heapreplace(heap, (wire.left / wire.users, i, wire))
            continue
        for flow in wire.flows:
            if flow not in moving:
                if flow.rate > share * (1 + _ROUNDING):
                    return held, wire
            elif flow not in held:
                held[flow] = share, wire
                for crossed, times in flow.wires:
                    crossed.left -= share * times
                    crossed.users -= times
    return held, None
