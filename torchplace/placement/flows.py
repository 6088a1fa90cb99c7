"""Flows: bytes under way over links that they share max-min fairly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from math import inf
from typing import Protocol

from torchplace.placement.topology.link import Link
from torchplace.placement.topology.route import Route

Later = Callable[[float, Callable[[float], None]], None]
"""Has something done at a time: it is called with that time."""


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
        alone: bytes/s that it gets where nobody else is.
        done: called with the time at which its last byte has left.
    """

    __slots__ = ("alone", "done", "end", "left", "rate", "since", "wires")

    def __init__(self, wires: tuple[tuple[Wire, int], ...], done: Callable[[float], None]) -> None:
        self.wires, self.done = wires, done
        self.alone = min((wire.capacity / times for wire, times in wires), default=inf)
        self.left, self.rate, self.since, self.end = 0.0, 0.0, 0.0, inf

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
    that share links with them, directly or over others, are worked out anew, once for all that happens at one time:
    O(c log c) for c crossings of links by them.

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
        return Flow(tuple(crossed.items()), done)

    def _wire(self, link: Link) -> Wire:
        if link not in self._wires:
            self._wires[link] = Wire(link.bandwidth)
        return self._wires[link]

    def start(self, now: float, flow: Flow, nbytes: float) -> None:
        """Let bytes flow."""
        for wire, _ in flow.wires:
            if wire.holder is not None:
                wire.holder.give_way(now)
        flow.left, flow.since, flow.rate = nbytes, now, 0.0
        met = [wire for wire, _ in flow.wires if wire.flows]
        for wire, times in flow.wires:
            wire.flows[flow] = times
        if met:
            self._touch(now, met)
        else:
            self._set_rate(now, flow, flow.alone)

    def again(self, now: float, flow: Flow, nbytes: float) -> None:
        """Let more bytes flow behind those that have just left, without giving the links up: nobody's rate changes."""
        flow.left, flow.since = nbytes, now
        flow.end = now + nbytes / flow.rate
        self.later(flow.end, flow.over)

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
        met = _met(self._changed)
        self._changed.clear()
        for flow, rate in fair_rates(met).items():
            if rate != flow.rate:
                self._set_rate(now, flow, rate)

    def _set_rate(self, now: float, flow: Flow, rate: float) -> None:
        flow.left = max(0.0, flow.left - flow.rate * (now - flow.since))
        flow.rate, flow.since = rate, now
        flow.end = now + flow.left / rate
        self.later(flow.end, flow.over)


def _met(wires: Iterable[Wire]) -> list[Wire]:
    """All wires in use that flows join to those, directly or over others."""
    found = {wire: None for wire in wires if wire.flows}
    todo, seen = list(found), set[Flow]()
    while todo:
        for flow in todo.pop().flows:
            if flow not in seen:
                seen.add(flow)
                for wire, _ in flow.wires:
                    if wire not in found:
                        found[wire] = None
                        todo.append(wire)
    return list(found)


def fair_rates(wires: Iterable[Wire]) -> dict[Flow, float]:
    """The max-min fair rates of all flows on some wires, in bytes/s; none of them may be on other wires.

    The wire that gives least to each crossing fills up first, and settles the flows on it; what others have left for
    the rest can only grow by that, so a heap of shares that are out of date is read safely.
    """
    rates: dict[Flow, float] = {}
    heap = []
    for i, wire in enumerate(wires):
        wire.left, wire.users = wire.capacity, sum(wire.flows.values())
        heap.append((wire.left / wire.users, i, wire))
    heapify(heap)
    while heap:
        share, i, wire = heappop(heap)
        if not wire.users:
            continue
        if wire.left / wire.users > share:
            heappush(heap, (wire.left / wire.users, i, wire))
            continue
        for flow in wire.flows:
            if flow not in rates:
                rates[flow] = share
                for crossed, times in flow.wires:
                    crossed.left -= share * times
                    crossed.users -= times
    return rates
