"""Traffic: transfers under way, which share links max-min fairly."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from torchplace.placement.topology.topology import Topology

Later = Callable[[float, Callable[[float], None]], None]
"""Has something done at a time: it is called with that time."""


@dataclass(frozen=True, slots=True)
class Way:
    """A route as traffic sees it.

    Attributes:
        links: index of each link that it crosses -> how often it does (twice, where it is staged through memory).
        names: of the links, as timelines have them.
        latency: seconds.
        bandwidth: bytes/s of a transfer that has the links to itself.
    """

    links: dict[int, int]
    names: tuple[str, ...]
    latency: float
    bandwidth: float


class Transfer:
    """One transfer: bytes that are left, and the rate at which they flow."""

    __slots__ = ("done", "left", "rate", "since", "version", "way")

    def __init__(self, way: Way, nbytes: float, done: Callable[[float], None]) -> None:
        self.way, self.left, self.done = way, float(nbytes), done
        self.rate, self.since, self.version = 0.0, 0.0, 0


class Traffic:
    """Every transfer under way on a topology, and those that wait for their turn.

    Transfers from one device to another go one after the other, as on a copy stream; those of different pairs flow at
    the same time. Links that several cross are shared max-min fairly: nobody's rate can grow without that of somebody
    slower falling (progressive filling; Bertsekas and Gallager, "Data networks", 2nd ed., section 6.5.2). When the last
    byte has left, the next of the pair begins; the latency of the route later, the transfer has arrived.

    Cost: a transfer that meets nobody costs the length of its route. Where one joins or leaves others, the rates of
    those that share links with it, directly or over others, are worked out anew: links x distinct rates among them.

    Args:
        topology: devices and links.
        later: has something done at a time.
    """

    def __init__(self, topology: Topology, later: Later) -> None:
        self.topology, self.later = topology, later
        self._index: dict[str, int] = {}
        self._capacity: list[float] = []
        self._on: list[dict[Transfer, None]] = []  # the transfers on each link
        self._ways: dict[tuple[str, str], Way] = {}
        self._waiting: dict[tuple[str, str], deque[tuple[float, Callable[[float], None]]]] = {}

    def way(self, source: str, target: str) -> Way:
        """The route between two devices."""
        found = self._ways.get((source, target))
        if found is None:
            route = self.topology.route(source, target)
            crossed = Counter(self._link(link.name, link.bandwidth) for link in route.links)
            narrowest = min((self._capacity[i] / times for i, times in crossed.items()), default=inf)
            names = tuple(link.name for link in route.links)
            found = self._ways[source, target] = Way(dict(crossed), names, route.latency, narrowest)
        return found

    def _link(self, name: str, bandwidth: float) -> int:
        if name not in self._index:
            self._index[name] = len(self._capacity)
            self._capacity.append(bandwidth)
            self._on.append({})
        return self._index[name]

    def send(self, now: float, source: str, target: str, nbytes: float, arrived: Callable[[float], None]) -> None:
        """Move bytes from one device to another, behind what was sent before; `arrived` is called at their arrival."""
        pair = source, target
        queue = self._waiting.get(pair)
        if queue is not None:
            queue.append((nbytes, arrived))
            return
        self._waiting[pair] = deque()
        self._begin(now, pair, nbytes, arrived)

    def _begin(self, now: float, pair: tuple[str, str], nbytes: float, arrived: Callable[[float], None]) -> None:
        way = self.way(*pair)

        def done(time: float) -> None:
            queue = self._waiting[pair]
            if queue:
                self._begin(time, pair, *queue.popleft())
            else:
                del self._waiting[pair]
            self.later(time + way.latency, arrived)

        self._flow(now, Transfer(way, nbytes, done))

    def _flow(self, now: float, transfer: Transfer) -> None:
        met = any(self._on[i] for i in transfer.way.links)
        transfer.since = now
        for i in transfer.way.links:
            self._on[i][transfer] = None
        if met:
            self._share(now, [transfer])
        else:
            self._set_rate(now, transfer, transfer.way.bandwidth)

    def _set_rate(self, now: float, transfer: Transfer, rate: float) -> None:
        """Let a transfer go on at a rate; its end is announced, and what was announced before no longer holds."""
        if rate == transfer.rate:
            return
        transfer.left -= transfer.rate * (now - transfer.since) if transfer.rate else 0.0
        transfer.rate, transfer.since = rate, now
        transfer.version += 1
        version = transfer.version

        def end(time: float) -> None:
            if transfer.version == version:
                self._end(time, transfer)

        self.later(now + max(0.0, transfer.left) / rate, end)

    def _end(self, now: float, transfer: Transfer) -> None:
        transfer.version += 1
        others: dict[Transfer, None] = {}
        for i in transfer.way.links:
            del self._on[i][transfer]
            others.update(self._on[i])
        if others:
            self._share(now, list(others))
        transfer.done(now)

    def _share(self, now: float, touched: list[Transfer]) -> None:
        """Work out anew the rates of transfers, and of all that share links with them, directly or over others."""
        transfers, links = self._met(touched)
        left = {i: self._capacity[i] for i in links}
        users = {i: sum(t.way.links[i] for t in self._on[i]) for i in links}
        open_ = dict.fromkeys(transfers)
        while open_:
            narrow = min((i for i in links if users[i]), key=lambda i: left[i] / users[i])
            rate = left[narrow] / users[narrow]
            for transfer in [t for t in self._on[narrow] if t in open_]:
                del open_[transfer]
                self._set_rate(now, transfer, rate)
                for i, times in transfer.way.links.items():
                    left[i] = max(0.0, left[i] - rate * times)
                    users[i] -= times

    def _met(self, touched: list[Transfer]) -> tuple[list[Transfer], list[int]]:
        """All transfers that share links with those, directly or over others; and the links that they are on."""
        transfers, links, todo = dict.fromkeys(touched), dict[int, None](), list(touched)
        while todo:
            for i in todo.pop().way.links:
                if i not in links:
                    links[i] = None
                    new = [t for t in self._on[i] if t not in transfers]
                    transfers.update(dict.fromkeys(new))
                    todo += new
        return list(transfers), list(links)
