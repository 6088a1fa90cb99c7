"""How long a step takes, by list scheduling of items: quick enough to ask for thousands of placements."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from math import inf

from torchplace.placement.coarse.model import END, MADE, Coarse


class Clock:
    """Seconds of one step under a placement of the items: the parts one after the other.

    Each device runs, of the items that are ready, the one that other devices wait for most, as programs are lowered
    (`compiler.order`). A value goes once to each device that takes it; a link moves one value after the other (the
    simulator shares it). What the host takes is left out.

    Args:
        coarse: the items.
    """

    def __init__(self, coarse: Coarse) -> None:
        self.coarse = coarse
        count = len(coarse.items)
        parts = sorted(set(coarse.part))
        self.parts = [[item for item in range(count) if coarse.part[item] == part] for part in parts]
        self.out: list[list[tuple[list[int], int]]] = [[] for _ in range(count)]  # (who waits for it, bytes)
        self.home: list[list[tuple[list[int], int]]] = [[] for _ in range(count)]  # (who has it at the end, bytes)
        self.fetched: list[list[tuple[int, list[int], int]]] = [[] for _ in parts]  # (source, who, bytes) at the start
        self.waits = [0] * count
        for value in coarse.values:
            if value.when == END:
                self.home[value.source].append((list(value.targets), value.nbytes))
                continue
            for part in {coarse.part[target] for target in value.targets}:
                here = [target for target in value.targets if coarse.part[target] == part]
                if value.when == MADE and part == coarse.part[value.source]:
                    self.out[value.source].append((here, value.nbytes))
                    for target in here:
                        self.waits[target] += 1
                else:
                    self.fetched[parts.index(part)].append((value.source, here, value.nbytes))
        for fetched in self.fetched:
            fetched.sort(key=lambda entry: entry[1])  # what is needed first leaves first

    def step_time(self, placed: Sequence[int], limit: float = inf) -> float:
        """Seconds of one step; more than `limit`, and not the whole, where it is exceeded.

        Cost: O((items + values) log items).
        """
        total = 0.0
        for number in range(len(self.parts)):
            total += _Part(self, number, placed).run(limit - total)
            if total > limit:
                break
        return total

    def starts(self, placed: Sequence[int]) -> list[float]:
        """Seconds, since its part began, at which each item begins."""
        found = [0.0] * len(placed)
        for number in range(len(self.parts)):
            part = _Part(self, number, placed)
            part.run(inf)
            for item, start in part.start.items():
                found[item] = start
        return found

    def critical(self, placed: Sequence[int]) -> list[int]:
        """Items that nothing could delay without delaying the end: in each part, a chain from its last item back."""
        found: list[int] = []
        for number in range(len(self.parts)):
            part = _Part(self, number, placed)
            part.run(inf)
            found += part.chain()
        return found


class _Part:
    """One part of a step as it runs."""

    def __init__(self, clock: Clock, number: int, placed: Sequence[int]) -> None:
        self.clock, self.placed, self.coarse = clock, placed, clock.coarse
        self.items = clock.parts[number]
        time, kind_of = self.coarse.time, self.coarse.kind_of
        self.duration = {item: time[kind_of[placed[item]]][item] for item in self.items}
        self.ready_at = dict.fromkeys(self.items, 0.0)
        self.waits = {item: clock.waits[item] for item in self.items}
        self.free = [0.0] * len(self.coarse.devices)
        self.link_free: dict[int, float] = {}
        self.end = 0.0
        self.start: dict[int, float] = {}
        self.cause: dict[int, int] = {}  # item -> whose value came last
        self.previous: dict[int, int] = {}  # item -> what its device did before
        self.last = [-1] * len(self.coarse.devices)
        self.urgency = self._urgencies()
        self.rank = {item: (-self.urgency[item], item) for item in self.items}
        self._fetch_state(number)

    def _urgencies(self) -> dict[int, float]:
        """As `compiler.order`: seconds to the end, the longest way that leaves the item's device."""
        placed, duration, way = self.placed, self.duration, self.coarse.way
        tail: dict[int, float] = {}
        urgency: dict[int, float] = {}
        for item in reversed(self.items):
            here, rest, leaving = placed[item], 0.0, 0.0
            for users, nbytes in self.clock.out[item]:
                for user in users:
                    there = placed[user]
                    if there == here:
                        rest = max(rest, tail[user])
                        if urgency[user] and urgency[user] + duration[user] > leaving:
                            leaving = urgency[user] + duration[user]
                    else:
                        found = way(here, there)
                        leaving = max(leaving, found.latency + nbytes * found.per_byte + tail[user])
            urgency[item] = leaving
            tail[item] = duration[item] + max(rest, leaving)
        return urgency

    def _fetch_state(self, number: int) -> None:
        """What was there before the part began: state, and what an earlier part has left."""
        for source, targets, nbytes in self.clock.fetched[number]:
            at = {self.placed[source]: 0.0}
            for target in targets:
                device = self.placed[target]
                if device not in at:
                    at[device] = self._move(self.placed[source], device, nbytes, 0.0)
                if at[device] > self.ready_at[target]:
                    self.ready_at[target] = at[device]
                    self.cause[target] = source

    def _move(self, source: int, target: int, nbytes: int, ready: float) -> float:
        """When bytes arrive that can leave at a time."""
        way, free = self.coarse.way(source, target), self.link_free
        begin = ready
        for link, _ in way.links:
            if free.get(link, 0.0) > begin:
                begin = free[link]
        for link, per_byte in way.links:
            free[link] = begin + nbytes * per_byte
        return begin + nbytes * way.per_byte + way.latency

    def run(self, limit: float) -> float:
        """Seconds until all is done; it stops where they are more than the limit."""
        placed, duration, ready_at, waits = self.placed, self.duration, self.ready_at, self.waits
        devices = range(len(self.coarse.devices))
        future: list[list[tuple[float, int]]] = [[] for _ in devices]
        ready: list[list[tuple[float, int]]] = [[] for _ in devices]
        looks: list[tuple[float, int]] = []
        look = [inf] * len(devices)

        def release(item: int) -> None:
            device = placed[item]
            heapq.heappush(future[device], (ready_at[item], item))
            time = max(ready_at[item], self.free[device])
            if time < look[device]:
                look[device] = time
                heapq.heappush(looks, (time, device))

        for item in self.items:
            if not waits[item]:
                release(item)
        while looks:
            time, device = heapq.heappop(looks)
            if time != look[device]:
                continue
            look[device] = inf
            coming, now = future[device], ready[device]
            while coming and coming[0][0] <= time:
                heapq.heappush(now, self.rank[heapq.heappop(coming)[1]])
            if now and coming and self._better_to_wait(now[0][1], coming[0][1], time):
                look[device] = coming[0][0]
                heapq.heappush(looks, (coming[0][0], device))
                continue
            if now:
                item = heapq.heappop(now)[1]
                self.start[item] = time
                self.previous[item], self.last[device] = self.last[device], item
                done = self.free[device] = time + duration[item]
                self.end = max(self.end, done)
                if self.end > limit:
                    return self.end
                self._hand_over(item, device, done, release)
            if now or coming:
                again = max(self.free[device], time if now else coming[0][0])
                if again < look[device]:
                    look[device] = again
                    heapq.heappush(looks, (again, device))
        return self.end

    def _better_to_wait(self, item: int, coming: int, time: float) -> bool:
        """As `compiler.order`: whether to idle till what others wait for more is ready."""
        urgency = self.urgency
        if urgency[coming] <= urgency[item]:
            return False
        long, short = self.duration[item], self.duration[coming]
        now = long + max(urgency[item], short + urgency[coming])
        later = self.ready_at[coming] - time + short + max(urgency[coming], long + urgency[item])
        return later < now

    def chain(self) -> list[int]:
        """From the item that ends last, back to one that began at once: what each of them waited for."""
        ends = {item: start + self.duration[item] for item, start in self.start.items()}
        item = max(ends, key=lambda i: (ends[i], -i), default=-1)
        found: list[int] = []
        while item >= 0:
            found.append(item)
            waited = self.start[item] > self.ready_at[item]
            item = self.previous[item] if waited else self.cause.get(item, -1)
            if item not in self.start:  # state, or of an earlier part
                break
        return found

    def _hand_over(self, item: int, device: int, done: float, release: Callable[[int], None]) -> None:
        placed, ready_at, waits = self.placed, self.ready_at, self.waits
        for targets, nbytes in self.clock.out[item]:
            at = {device: done}
            for target in targets:
                there = placed[target]
                arrival = at.get(there)
                if arrival is None:
                    arrival = at[there] = self._move(device, there, nbytes, done)
                if arrival > ready_at[target]:
                    ready_at[target] = arrival
                    self.cause[target] = item
                waits[target] -= 1
                if not waits[target]:
                    release(target)
        for targets, nbytes in self.clock.home[item]:
            for there in {placed[target] for target in targets} - {device}:
                self.end = max(self.end, self._move(device, there, nbytes, done))
