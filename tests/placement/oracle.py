"""Another simulator, slow and exact, that shares no code with the one that it checks.

Time is a fraction, and at each event everything is worked out anew: the rates of all flows on the whole topology by
raising them together, little by little, till a link is full; the speeds of all that compute. Devices are generators.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from torchplace.compiler.instructions import Recv, Reduce, Run, Send, Update
from torchplace.compiler.program import Program
from torchplace.placement.topology import Link, Topology

Done = tuple[str, str, Fraction, Fraction]
"""Device, instruction, start and end."""


@dataclass(eq=False)
class Moving:
    """Bytes on links, or seconds of computing on a device."""

    left: Fraction
    then: Callable[[], None]
    links: Counter[Link] = field(default_factory=Counter)
    limit: Fraction | None = None
    device: str = ""
    demand: Fraction = Fraction(0)


class World:
    """What moves and what waits for a time."""

    def __init__(self, topology: Topology) -> None:
        self.topology, self.now = topology, Fraction(0)
        self.moving: list[Moving] = []
        self.alarms: list[tuple[Fraction, int, Callable[[], None]]] = []
        self.queues: dict[tuple[str, str], deque[Callable[[], None]]] = {}
        self.set = 0

    def after(self, seconds: float | Fraction, what: Callable[[], None]) -> None:
        self.set += 1
        self.alarms.append((self.now + Fraction(seconds), self.set, what))

    def run(self) -> None:
        while self.moving or self.alarms:
            speeds = self.speeds()
            ends = [self.now + m.left / speeds[m] for m in self.moving]
            then = min([*ends, *(time for time, *_ in self.alarms)])
            for m in self.moving:
                m.left -= speeds[m] * (then - self.now)
            self.now = then
            over = [m for m in self.moving if m.left == 0]
            self.moving = [m for m in self.moving if m.left]
            rung = sorted(a for a in self.alarms if a[0] == then)
            self.alarms = [a for a in self.alarms if a[0] != then]
            for what in [m.then for m in over] + [a[-1] for a in rung]:
                what()

    def speeds(self) -> dict[Moving, Fraction]:
        flows = [m for m in self.moving if m.links]
        speeds = level(flows)
        for m in self.moving:
            if not m.links:
                speeds[m] = Fraction(1)
        for group in self.topology.coruns:
            running = [m for m in self.moving if m.device in group.devices]
            for m in running:
                asked = sum(other.demand for other in running)
                room = Fraction(1) if group.capacity is None else max(Fraction(1), asked / Fraction(group.capacity))
                speeds[m] = 1 / (room * Fraction(group.slowdown[min(len(running), len(group.slowdown)) - 1]))
        return speeds

    def flow(self, links: tuple[Link, ...], nbytes: Fraction, then: Callable[[Fraction], None]) -> None:
        """Bytes that start now; when the last has left, `then` is told what is left of the latency."""
        latency, work, limit = seen(links, nbytes)
        if work and links:
            self.moving.append(Moving(work, lambda: then(latency), Counter(links), limit))
        else:
            self.after(0, lambda: then(latency))

    def send(self, pair: tuple[str, str], nbytes: int, arrived: Callable[[Fraction], None]) -> None:
        """Bytes that start when all that was sent to the same device before has left; `arrived` is told when."""
        links = self.topology.route(*pair).links
        queue = self.queues.setdefault(pair, deque())

        def start() -> None:
            begun = self.now

            def left(latency: Fraction) -> None:
                self.after(latency, lambda: arrived(begun))
                queue.popleft()
                if queue:
                    queue[0]()

            self.flow(links, Fraction(nbytes), left)

        queue.append(start)
        if len(queue) == 1:
            start()

    def all_reduce(self, ring: tuple[str, ...], nbytes: int, done: Callable[[], None], step: int = 0) -> None:
        """The steps of a ring all-reduce, from one on."""
        if step == 2 * (len(ring) - 1):
            self.after(0, done)
            return
        missing = list(ring)

        def arrived() -> None:
            missing.pop()
            if not missing:
                self.all_reduce(ring, nbytes, done, step + 1)

        for i, source in enumerate(ring):
            links = self.topology.route(source, ring[(i + 1) % len(ring)]).links
            self.flow(links, Fraction(nbytes, len(ring)), lambda latency: self.after(latency, arrived))


def level(flows: list[Moving]) -> dict[Moving, Fraction]:
    """Max-min fair rates: all rise together; those on a full link stay where they are."""
    rates = {flow: Fraction(0) for flow in flows}
    rising = list(flows)
    while rising:
        slack = {}
        for link in {link for flow in rising for link in flow.links}:
            used = sum(rates[flow] * flow.links[link] for flow in flows)
            slack[link] = (Fraction(link.bandwidth) - used) / sum(flow.links[link] for flow in rising)
        below = [flow.limit - rates[flow] for flow in rising if flow.limit is not None]
        rise = min([*slack.values(), *below])
        for flow in rising:
            rates[flow] += rise
        full = {link for link, room in slack.items() if room == rise}
        rising = [flow for flow in rising if not full & set(flow.links) and rates[flow] != flow.limit]
    return rates


def seen(links: tuple[Link, ...], nbytes: Fraction) -> tuple[Fraction, Fraction, Fraction | None]:
    """Latency, bytes as the links see them, and the limit of the rate, of a transfer over links with pieces."""
    crossed = Counter(links)
    if not any(link.pieces for link in links):
        return sum((Fraction(k.latency) for k in links), Fraction(0)), nbytes, None

    def line(size: Fraction, before: bool) -> tuple[Fraction, Fraction]:
        """Latency and bandwidth in force at a size, or just before it."""
        latency, bandwidths = Fraction(0), []
        for link, times in crossed.items():
            found = (link.latency, link.bandwidth)
            for piece in link.pieces:
                if piece.nbytes < size or (piece.nbytes == size and not before):
                    found = (piece.latency, piece.bandwidth)
            latency += times * Fraction(found[0])
            bandwidths.append(Fraction(found[1]) / times)
        return latency, min(bandwidths)

    steps = {Fraction(piece.nbytes) for link in links for piece in link.pieces if 0 < piece.nbytes <= nbytes}
    before = [latency + size / bandwidth for size in steps for latency, bandwidth in [line(size, before=True)]]
    latency, bandwidth = line(nbytes, before=False)
    seconds = max([latency + nbytes / bandwidth, *before])
    latency = seconds - nbytes / bandwidth
    if seconds <= 0:
        return Fraction(0), Fraction(0), None
    if latency < 0:
        latency, bandwidth = Fraction(0), nbytes / seconds
    capacity = min(Fraction(link.bandwidth) / times for link, times in crossed.items())
    if bandwidth < capacity:
        return latency, nbytes, bandwidth
    return latency, nbytes * capacity / bandwidth, None


def run_exactly(
    program: Program, topology: Topology, seconds: Mapping[str, Fraction], demands: Mapping[str, Fraction] | None = None
) -> list[Done]:
    """What a program of runs, sends, receives, frees, updates and reduces does.

    `seconds` are those of each segment, and of each state that is updated, as `update <name>`; so are `demands`, 1
    where nothing is said. The host takes no time.
    """
    world, done = World(topology), list[Done]()
    arrived: Counter[tuple[str, str, str, int]] = Counter()
    met: dict[Reduce, list[Callable[[], None]]] = {}
    wake: dict[str, Callable[[], None]] = {}

    def device(name: str) -> Iterator[None]:
        coming: dict[tuple[str, int], str] = {}
        for i in program.instructions.get(name, ()):
            k = i.microbatch
            for value in used(i):
                if (value, k) in coming:
                    key = (coming.pop((value, k)), name, value, k)
                    while not arrived[key]:
                        yield
                    arrived[key] -= 1
            start = world.now
            if isinstance(i, Recv):
                coming[i.value, k] = i.source
            elif isinstance(i, Send):
                send(name, i)
            elif isinstance(i, (Run, Update)):
                over: list[int] = []
                what = i.segment if isinstance(i, Run) else f"update {i.state}"
                compute(name, seconds[what], (demands or {}).get(what, Fraction(1)), over)
                while not over:
                    yield
                done.append((name, str(i), start, world.now))
            elif isinstance(i, Reduce):
                over = []
                meet(name, i, over)
                while not over:
                    yield
                done.append((name, str(i), over[0], world.now))

    def used(i: Any) -> tuple[str, ...]:
        if isinstance(i, Run):
            return i.inputs
        if isinstance(i, Update):
            return (i.state, i.value)
        return () if isinstance(i, Recv) else (i.value,)

    def compute(name: str, time: Fraction, demand: Fraction, over: list[int]) -> None:
        def end() -> None:
            over.append(1)
            wake[name]()

        if time:
            world.moving.append(Moving(time, end, device=name, demand=demand))
        else:
            world.after(0, end)

    def send(name: str, i: Send) -> None:
        def there(begun: Fraction) -> None:
            done.append((name, str(i), begun, world.now))
            arrived[name, i.to, i.value, i.microbatch] += 1
            wake[i.to]()

        world.send((name, i.to), program.values[i.value].nbytes, there)

    def meet(name: str, i: Reduce, over: list[Any]) -> None:
        def end(start: Fraction) -> None:
            over.append(start)
            wake[name]()

        met.setdefault(i, []).append(end)
        if len(met[i]) == len(i.group):
            ends, start = met.pop(i), world.now

            def all_end() -> None:
                for one in ends:
                    one(start)

            world.all_reduce(i.group, program.values[i.value].nbytes, all_end)

    for name in program.devices:
        steps = device(name)
        wake[name] = lambda steps=steps: next(steps, None)
    for name in program.devices:
        world.after(0, wake[name])
    world.run()
    return done
