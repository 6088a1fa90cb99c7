"""Links in the model of latency: each moves one value at a time."""

from __future__ import annotations

from torchplace.placement.coarse.model import Handed
from torchplace.placement.exact.model import NO, YES, Linear, Model, Stay, one, total
from torchplace.placement.exact.places import Places
from torchplace.placement.exact.routes import busy_links, pairs_between, shared
from torchplace.placement.exact.schedule import Schedule


def add_traffic(schedule: Schedule) -> None:
    """Let transfers wait for each other, as `coarse.clock` does: a tighter bound, and a much larger model.

    Args:
        schedule: to whose model it is added; worth it for small ones.

    Cost: O(values x pairs of devices x links of a route) rows.
    """
    traffic = _Traffic(schedule)
    for value in schedule.coarse.values:
        traffic.add(value)
    for stays in traffic.links.values():
        schedule.take_turns(stays)


class _Traffic:
    """The transfers on each link."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule, self.coarse = schedule, schedule.coarse
        self.model: Model = schedule.model
        self.places: Places = schedule.places
        devices = range(len(self.coarse.devices))
        self.busy = busy_links(self.coarse, pairs_between(devices, devices))
        self.links: dict[tuple[int, int], list[Stay]] = {}  # (part, link) -> what it carries

    def add(self, value: Handed) -> None:
        waiting: dict[int, list[tuple[int, int]]] = {}  # part -> targets, and what waits for them
        for target in value.targets:
            part, waits = self.schedule.awaited(value, target)
            waiting.setdefault(part, []).append((target, waits))
        for part, targets in waiting.items():
            for device in sorted({d for target, _ in targets for d in self.places.devices(target)}):
                self._deliver(value, part, device, targets)

    def _deliver(self, value: Handed, part: int, device: int, targets: list[tuple[int, int]]) -> None:
        """A value goes once to a device, whoever takes it there."""
        pairs = pairs_between(self.places.devices(value.source), (device,))
        if not pairs:
            return
        used = self.model.any_of([(YES, self.places.at(target, device)) for target, _ in targets])
        begin = self.model.time()
        self.model.at_least(begin, self.schedule.ready(value, part))
        arrival = total((one(begin), self._delay(value, pairs)))
        for target, waits in targets:
            self.model.at_least(waits, arrival, self.places.at(target, device))
        for link, (per_byte, users) in shared(self.coarse, pairs).items():
            here = self.places.among(value.source, {a for a, _ in users})
            present = self.model.any_of([(here, used)])
            if link in self.busy and present != NO:
                stay = Stay(begin, self.model.steps(value.nbytes * per_byte), present)
                self.links.setdefault((part, link), []).append(stay)

    def _delay(self, value: Handed, pairs: list[tuple[int, int]]) -> Linear:
        found = []
        for a, b in pairs:
            way = self.coarse.way(a, b)
            steps = self.model.steps(way.latency + value.nbytes * way.per_byte)
            found.append(self.places.at(value.source, a).times(steps))
        return total(found)
