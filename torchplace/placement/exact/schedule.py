"""Latency as a model: every item has a start, every value takes its time, every device does one thing at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from torchplace.placement.coarse.model import END, MADE, START, Handed
from torchplace.placement.exact.model import NO, YES, Linear, Model, Stay, one, total
from torchplace.placement.exact.places import Places
from torchplace.placement.exact.routes import Pairs, distances


class Schedule:
    """Rows of a model for the seconds of a step: its parts one after the other, each as long as its last item.

    Every schedule by `coarse.clock` is one of the model, so that the model's least time is a lower bound of the
    clock's. Transfers have the links to themselves, unless `traffic` adds more.

    Args:
        model: gets the rows.
        places: where the items are.
        starts: seconds, in its part, at which each item begins: the hint.
        keep: what is held on a device stays in that order (partial-order schedules: Godard, Laborie and Nuijten,
            "Randomized Large Neighborhood Search for Cumulative Scheduling", ICAPS 2005).

    Attributes:
        start: the variable of each item.
        ends: part -> the variable of its end.
    """

    def __init__(self, model: Model, places: Places, starts: Sequence[float], keep: bool) -> None:
        self.model, self.places, self.coarse, self.keep = model, places, places.coarse, keep
        self.start = [model.time(start) for start in starts]
        self.ends = {part: model.time() for part in sorted(set(self.coarse.part))}
        model.goals += self.ends.values()
        self._duration = [self._duration_of(item) for item in range(len(starts))]
        for item, part in enumerate(self.coarse.part):
            model.at_least(self.ends[part], self.end(item))
        for value in self.coarse.values:
            for target in value.targets:
                self._hand_over(value, target)
        for part in self.ends:
            self._devices(part)

    def end(self, item: int) -> Linear:
        """When an item is done."""
        return total((one(self.start[item]), self._duration[item]))

    def _duration_of(self, item: int) -> Linear:
        steps = {device: self._steps(item, device) for device in self.places.devices(item)}
        if len(set(steps.values())) == 1:
            return Linear(constant=next(iter(steps.values())))
        return total(self.places.at(item, device).times(count) for device, count in steps.items())

    def _steps(self, item: int, device: int) -> float:
        return self.model.steps(self.coarse.time[self.coarse.kind_of[device]][item])

    def ready(self, value: Handed, part: int) -> Linear:
        """When a value can leave, for a part of the step: when it is made, or when the part begins."""
        made = value.when != START and self.coarse.part[value.source] == part
        return self.end(value.source) if made else NO

    def awaited(self, value: Handed, target: int) -> tuple[int, int]:
        """Who waits until a target has a value: a part, and the variable of its end or of the target's start."""
        if value.when == END:
            part = self.coarse.part[value.source]
            return part, self.ends[part]
        return self.coarse.part[target], self.start[target]

    def _hand_over(self, value: Handed, target: int) -> None:
        part, waits = self.awaited(value, target)
        ready = self.ready(value, part)
        delay = self.delay(value, distances(self.coarse, value.nbytes, self.places.ways(value.source, target)), target)
        if delay != NO or (ready != NO and value.when == MADE):
            self.model.at_least(waits, total((ready, delay)))

    def delay(self, value: Handed, far: Iterable[tuple[float, Pairs]], target: int) -> Linear:
        """Steps that a value takes to a target, for distances and who is so far apart."""
        found, before = [], 0.0
        for seconds, pairs in far:
            steps = self.model.steps(seconds)
            if steps > before:
                found.append(self.places.apart(value.source, target, pairs).times(steps - before))
                before = steps
        return total(found)

    def _devices(self, part: int) -> None:
        """A device does one thing at a time; so a part is no shorter than all that a device does."""
        members = [item for item, of in enumerate(self.coarse.part) if of == part]
        for device in range(len(self.coarse.devices)):
            stays = [Stay(self.start[i], self._steps(i, device), self.places.at(i, device)) for i in members]
            stays = [stay for stay in stays if stay.present != NO]
            self.take_turns(stays)
            self.model.at_least(self.ends[part], total(stay.present.times(stay.steps) for stay in stays))

    def take_turns(self, stays: Sequence[Stay]) -> None:
        """Add a machine; what is always there may stay in the order of the hint."""
        held = [stay for stay in stays if stay.present == YES]
        if self.keep:
            hint = self.model.hint
            held.sort(key=lambda stay: (hint[stay.start], hint[stay.start] + stay.steps))
            for before, after in pairwise(held):
                self.model.at_least(after.start, Linear(((before.start, 1.0),), before.steps))
        if len(stays) > 1 and not (self.keep and len(held) == len(stays)):
            self.model.machines.append(list(stays))
