"""Collectives: all-reduce in a ring."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from torchplace.placement.flows import Flow, Flows, Later, Passage, Wire, fair_rates
from torchplace.placement.topology.route import Route

_ROUNDING = 1e-12


class Ring:
    """A ring of devices, which all-reduces one value after the other.

    An all-reduce is 2 (n - 1) steps, in each of which every member sends an n-th of the value to the next (Patarasuk
    and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", Journal of Parallel and
    Distributed Computing 69, 2009). A step begins when all that was sent in the one before has arrived. Its transfers
    share links with each other and with whatever else flows, but do not queue behind other transfers of a pair.

    Cost: n, as long as nothing else flows on the ring's links: then all steps are alike, one is worked out (once for
    each ring, or each size where links have pieces), and they pass as one. Where something else comes, the
    step that it falls into is taken up in the
    middle; each step that has company costs n flows.

    Args:
        routes: from each member to the next, and from the last to the first.
        flows: everything that flows.
        later: has something done at a time.
    """

    def __init__(self, routes: Iterable[Route], flows: Flows, later: Later) -> None:
        self._flows, self._later = flows, later
        self._routes: dict[Flow, Route] = {}
        for route in routes:
            self._add(route)
        self._hops: dict[Flow, Passage] = {}  # what a share takes
        self._share = -1.0
        self._wires = list(dict.fromkeys(wire for hop in self._routes for wire, _ in hop.wires))
        self._known: dict[tuple[tuple[float, float], ...], _Step] = {}
        self._steps = 0
        self._done: Callable[[float], None] = _nothing
        self._since, self._end = 0.0, 0.0  # of steps that pass as one
        self._missing, self._last = 0, 0.0  # of a step with company: hops that still flow, and the latest arrival

    def _add(self, route: Route) -> None:
        hop = self._flows.flow(route, lambda now: self._hop_over(now, hop))
        self._routes[hop] = route

    def all_reduce(self, now: float, nbytes: float, done: Callable[[float], None]) -> None:
        """Reduce values of `nbytes` bytes; `done` is called at the end. One at a time."""
        share = nbytes / len(self._routes)
        if share != self._share:
            self._share = share
            self._hops = {hop: Passage.of(route, share) for hop, route in self._routes.items()}
        self._steps, self._done = 2 * (len(self._routes) - 1), done
        self._go_on(now)

    def _step(self) -> _Step:
        """A step that has the links to itself, for the share at hand."""
        key = tuple(
            (passage.work / self._share if self._share else 1.0, passage.limit) for passage in self._hops.values()
        )
        if key not in self._known:
            self._known[key] = _Step(dict(zip(self._hops, key, strict=True)))
        return self._known[key]

    def _go_on(self, now: float) -> None:
        """Begin the steps that are left: all of them if the ring has its links to itself, else one."""
        if not self._steps:
            self._done(now)
        elif self._share and any(wire.flows or wire.holder for wire in self._wires):
            self._missing, self._last = len(self._hops), now
            for hop, passage in self._hops.items():
                self._flows.start(now, hop, passage.work, passage.limit)
        else:
            self._since, self._end = now, now + self._steps * self._seconds()
            for wire in self._wires if self._share else ():
                wire.holder = self
            self._later(self._end, self._over)

    def _seconds(self) -> float:
        """How long a step takes that has the links to itself."""
        ends = self._step().ends
        return max(ends[hop] * self._share + passage.latency for hop, passage in self._hops.items())

    def _over(self, now: float) -> None:
        """All steps have passed as one, unless the ring has given way meanwhile."""
        if now == self._end:
            self._let_go()
            self._done(now)

    def _let_go(self) -> None:
        self._end = -1.0
        for wire in self._wires:
            if wire.holder is self:
                wire.holder = None

    def give_way(self, now: float) -> None:
        """Take up the step that is under way, hop by hop."""
        self._let_go()
        seconds = self._seconds()
        passed = min(int((now - self._since) / seconds), self._steps - 1)
        self._steps -= passed
        begun = self._since + passed * seconds
        self._missing, self._last = len(self._hops), now
        step = self._step()
        for hop, passage in self._hops.items():
            end = begun + step.ends[hop] * self._share
            if end <= now:
                self._arrives(end + passage.latency)
            else:
                moved = step.moved(hop, self._share, now - begun)
                self._flows.start(now, hop, passage.work - moved, passage.limit)

    def _hop_over(self, now: float, hop: Flow) -> None:
        self._flows.stop(now, hop)
        self._arrives(now + self._hops[hop].latency)

    def _arrives(self, time: float) -> None:
        """What one hop sends in this step arrives at a time; the last to arrive ends the step."""
        self._last = max(self._last, time)
        self._missing -= 1
        if not self._missing:
            self._steps -= 1
            self._later(self._last, self._go_on)


def _nothing(now: float) -> None:
    """What is done at the end of no collective."""


class _Phase(NamedTuple):
    """A part of a step in which nobody's rate changes: seconds for each byte of a share, and bytes/s of each hop."""

    length: float
    rates: dict[Flow, float]


class _Step:
    """One step of a ring that has the links to itself.

    Attributes:
        phases: in order.
        ends: hop -> when its last byte leaves, in seconds since the step began for each byte of a share.
    """

    def __init__(self, hops: Mapping[Flow, tuple[float, float]]) -> None:
        """Of hops with the bytes that their links see for each byte of a share, and their limits (bytes/s)."""
        self.work = {hop: work for hop, (work, _) in hops.items()}
        self.phases = list(_phases(hops))
        self.ends = dict.fromkeys(hops, 0.0)
        time = 0.0
        for phase in self.phases:
            time += phase.length
            self.ends.update(dict.fromkeys(phase.rates, time))

    def moved(self, hop: Flow, share: float, seconds: float) -> float:
        """Bytes that a hop's links have seen so many seconds after the step began."""
        moved = 0.0
        for phase in self.phases:
            length = min(seconds, phase.length * share)
            moved += phase.rates.get(hop, 0.0) * length
            seconds -= length
        return min(moved, share * self.work[hop])


def _phases(hops: Mapping[Flow, tuple[float, float]]) -> Iterable[_Phase]:
    """The phases of a step in which every hop has a byte to send; worked out on copies of the wires."""
    copies = _copies(hops)
    left = {flow: hops[hop][0] for flow, hop in copies.items() if flow.wires}  # a ring of one has nowhere to send
    while left:
        rates = fair_rates(dict.fromkeys(wire for flow in left for wire, _ in flow.wires))
        length = min(left[flow] / rate for flow, rate in rates.items())
        yield _Phase(length, {copies[flow]: rate for flow, rate in rates.items()})
        for flow, rate in rates.items():
            left[flow] -= rate * length
            if left[flow] <= _ROUNDING:
                del left[flow]
                for wire, _ in flow.wires:
                    del wire.flows[flow]


def _copies(hops: Mapping[Flow, tuple[float, float]]) -> dict[Flow, Flow]:
    """Copies of hops, under way on copies of their wires, with what they are copies of."""
    wires = {wire: Wire(wire.capacity) for hop in hops for wire, _ in hop.wires}
    copies = {}
    for hop, (_, limit) in hops.items():
        flow = Flow(tuple((wires[wire], times) for wire, times in hop.wires), _nothing)
        copies[flow] = hop
        for wire, times in hop.wires:
            wires[wire].flows[flow] = times
            if wire is hop.valve:
                wires[wire].capacity = limit
    return copies
