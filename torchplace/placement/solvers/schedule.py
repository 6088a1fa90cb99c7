"""A schedule under construction: where ops were placed, when devices are busy, where the next op can start."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from torchplace.compiler.graph import Op, Value
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.pack import Limits, Room, base_load, bytes_of
from torchplace.placement.solvers.timeslots import Timeslots

MAX_CANDIDATES = 32
"""Devices that are compared for one op: all where there are fewer."""


class Choice(NamedTuple):
    """A place for an op: the device, when it would start and be done there (seconds), and bytes that it brings."""

    device: str
    start: float
    done: float
    nbytes: int


class Schedule:
    """What has been placed so far, and when everything is ready.

    Args:
        problem: what is placed.
        limits: device name -> bytes that may stay on it.
    """

    def __init__(self, problem: Problem, limits: Limits) -> None:
        self.problem = problem
        self.placement = dict(problem.pins)
        self.room = Room(limits, base_load(problem))
        self.group_of = {op: group for group in problem.groups for op in group}
        self.bytes_of = {group[0]: bytes_of(problem, group) for group in problem.groups}  # by a group's first op
        self.slots = {d: Timeslots() for d in problem.devices}
        self.position = {d: i for i, d in enumerate(problem.devices)}
        self.free = sorted((0.0, i) for i in range(len(problem.devices)))
        self.ready: dict[str, float] = {}  # made value -> when
        self.home = {name: op for name, op in problem.owner_ops.items() if op is not None}
        self.parameters = problem.gradients

    def best(self, op: Op, finish: bool) -> Choice | None:
        """Where an op finishes first, or starts first; None where no device has room for its group.

        Cost: O(min(devices, MAX_CANDIDATES) x inputs).
        """
        fixed = self.placement.get(op.name)
        nbytes = 0 if fixed else self.bytes_of[self.group_of[op.name][0]]
        inputs = list(self._inputs(op))
        found: Choice | None = None
        for device in (fixed,) if fixed else self._candidates(op.name, inputs, nbytes):
            start = self._start(op, inputs, device)
            done = start + self.problem.duration(op.name, device) + self._way_home(op, device)
            if found is None or (done if finish else start) < (found.done if finish else found.start):
                found = Choice(device, start, done, nbytes)
        return found

    def _inputs(self, op: Op) -> Iterator[tuple[Value, str, float]]:
        """(value, device, ready) for each input whose place is known: made ones, and state with a placed owner."""
        for value in op.inputs:
            if value.producer is not None:
                yield value, self.placement[value.producer.name], self.ready[value.name]
            elif (owner := self.placement.get(self.home.get(value.name, ""))) is not None:
                yield value, owner, 0.0

    def _start(self, op: Op, inputs: list[tuple[Value, str, float]], device: str) -> float:
        ready = 0.0
        for value, source, time in inputs:
            if source != device:
                time += self.problem.links.time(source, device, value.nbytes)
            ready = max(ready, time)
        return self.slots[device].earliest(ready, self.problem.duration(op.name, device))

    def _way_home(self, op: Op, device: str) -> float:
        """Seconds that gradients that `op` makes take to the owners of their parameters."""
        way = 0.0
        for value in op.outputs:
            for parameter in self.parameters.get(value.name, ()):
                owner = self.placement.get(self.home.get(parameter, ""))
                if owner is not None:
                    way = max(way, self.problem.links.time(device, owner, value.nbytes))
        return way

    def _candidates(self, op: str, inputs: list[tuple[Value, str, float]], nbytes: int) -> list[str]:
        """Allowed devices with room: where the inputs are, and those free first; in the topology's order."""
        devices, room, forbidden = self.problem.devices, self.room, self.problem.forbidden.get(op, ())
        if len(devices) <= MAX_CANDIDATES:
            return [d for d in devices if room.has(d, nbytes) and d not in forbidden]
        free = (devices[i] for _, i in self.free)
        found = {source for _, source, _ in inputs if room.has(source, nbytes) and source not in forbidden}
        found.update(islice((d for d in free if room.has(d, nbytes) and d not in forbidden), MAX_CANDIDATES))
        return sorted(found, key=self.position.__getitem__)

    def settle(self, op: Op, choice: Choice) -> None:
        """Place an op, and its group with it."""
        device, start = choice.device, choice.start
        duration, slots, i = self.problem.duration(op.name, device), self.slots[device], self.position[device]
        self.room.take(device, choice.nbytes)
        if op.name not in self.placement:
            self.placement.update(dict.fromkeys(self.group_of[op.name], device))
        del self.free[bisect_left(self.free, (slots.free_from, i))]
        slots.occupy(start, duration)
        insort(self.free, (slots.free_from, i))
        self.ready.update((value.name, start + duration) for value in op.outputs)
