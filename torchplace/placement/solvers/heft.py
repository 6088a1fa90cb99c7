"""HEFT: ops by their distance to the end, each where it would finish first."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import ClassVar

from torchplace.compiler.graph import Op, Value
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.pack import Limits, Room, base_load, bytes_of, within_memory
from torchplace.placement.solvers.timeslots import Timeslots

MAX_CANDIDATES = 32
"""Devices that are compared for one op: all where there are fewer."""


class Heft:
    """Heterogeneous earliest finish time: list scheduling with insertion, for devices of different speeds.

    Topcuoglu, Hariri and Wu, "Performance-effective and low-complexity task scheduling for heterogeneous
    computing" (IEEE TPDS 13, 2002), section 4.1. Ops are taken by upward rank (mean time to the end of the
    graph, mean transfers included), each is placed where it finishes first, in an idle gap if one is long enough.

    Beyond the paper: a group stays with its first op; devices without room for its bytes are passed over; state
    must come from its owner, where that is placed already; and what the gradient of a parameter takes to come
    home counts as time until it is finished.

    Limits: greedy, one op at a time; transfers do not compete for links; of more than 32 devices it compares
    those that hold the op's inputs and the 32 that are free first (`MAX_CANDIDATES`), of more than 64 gaps the
    first 64 (`Timeslots`); means of transfers are over 32 devices at most. Where it finds no room, the answer is
    that of `pack`. Has no seed and no search. Cost: O((ops + edges) x min(devices, 32)).
    """

    name: ClassVar[str] = "heft"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Schedule the ops, and keep where they went.

        Raises:
            InfeasibleError: no placement that fits was found.
        """
        ranks = upward_ranks(problem)
        index = {op: i for i, op in enumerate(problem.ops)}
        # Where ranks are equal (views take no time), program order is the topological one.
        order = sorted(problem.ops, key=lambda op: (-ranks[op], index[op]))
        return within_memory(problem, self.name, lambda limits: _Schedule(problem, limits).run(order))


def upward_ranks(problem: Problem) -> dict[str, float]:
    """Op name -> mean seconds from its start to the end of the graph, along the longest way.

    Never less for an op than for one that depends on it. Cost: linear in ops x kinds of device + edges.
    """
    latency, per_byte = mean_link(problem)
    time = _mean_durations(problem)
    rest: dict[str, float] = {}  # op -> the longest way from its end
    ranks: dict[str, float] = {}
    for op in reversed(problem.graph.ops):
        ranks[op.name] = time[op.name] + rest.get(op.name, 0.0)
        for value in op.inputs:
            if value.producer is not None:
                way = latency + per_byte * value.nbytes + ranks[op.name]
                rest[value.producer.name] = max(way, rest.get(value.producer.name, 0.0))
    return ranks


def mean_link(problem: Problem) -> tuple[float, float]:
    """Mean latency (seconds) and mean seconds per byte, over the ordered pairs of up to 32 devices."""
    step = -(-len(problem.devices) // MAX_CANDIDATES)
    sample = problem.devices[::step]
    pairs = [problem.links.parameters(s, t) for s in sample for t in sample if s != t]
    if not pairs:
        return 0.0, 0.0
    return sum(a for a, _ in pairs) / len(pairs), sum(1.0 / b for _, b in pairs) / len(pairs)


def _mean_durations(problem: Problem) -> dict[str, float]:
    counts: dict[int, int] = {}
    columns = {}
    for device in problem.devices:
        column = problem.durations(device)
        columns[id(column)] = column
        counts[id(column)] = counts.get(id(column), 0) + 1
    total = len(problem.devices)
    return {op: sum(columns[c][op] * n for c, n in counts.items()) / total for op in problem.ops}


class _Schedule:
    """What has been placed so far, and when everything is ready."""

    def __init__(self, problem: Problem, limits: Limits) -> None:
        self.problem = problem
        self.placement = dict(problem.pins)
        self.room = Room(limits, base_load(problem))
        self.group_of = {op: group for group in problem.groups for op in group}
        self.slots = {d: Timeslots() for d in problem.devices}
        self.position = {d: i for i, d in enumerate(problem.devices)}
        self.free = sorted((0.0, i) for i in range(len(problem.devices)))
        self.ready: dict[str, float] = {}  # made value -> when
        self.home = {name: op for name, op in problem.owner_ops.items() if op is not None}
        self.parameters = problem.gradients

    def run(self, order: list[str]) -> dict[str, str] | None:
        """Place the ops in order; None where one finds no room."""
        ops = self.problem.by_name
        for name in order:
            if not self._place(ops[name]):
                return None
        return self.placement

    def _place(self, op: Op) -> bool:
        fixed = self.placement.get(op.name)
        group = self.group_of[op.name]
        nbytes = 0 if fixed else bytes_of(self.problem, group)
        inputs = list(self._inputs(op))
        best: tuple[float, float, str] | None = None
        for device in (fixed,) if fixed else self._candidates(inputs, nbytes):
            start = self._start(op, inputs, device)
            done = start + self.problem.duration(op.name, device) + self._way_home(op, device)
            if best is None or done < best[0]:
                best = (done, start, device)
        if best is None:
            return False
        self._settle(op, group, best[2], best[1], nbytes)
        return True

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

    def _candidates(self, inputs: list[tuple[Value, str, float]], nbytes: int) -> list[str]:
        """Devices with room: where the inputs are, and those that are free first; in the topology's order."""
        devices = self.problem.devices
        if len(devices) <= MAX_CANDIDATES:
            return [d for d in devices if self.room.has(d, nbytes)]
        positions = {self.position[source] for _, source, _ in inputs if self.room.has(source, nbytes)}
        room = (i for _, i in self.free if self.room.has(devices[i], nbytes))
        positions.update(i for i, _ in zip(room, range(MAX_CANDIDATES), strict=False))
        return [devices[i] for i in sorted(positions)]

    def _settle(self, op: Op, group: tuple[str, ...], device: str, start: float, nbytes: int) -> None:
        duration, slots, i = self.problem.duration(op.name, device), self.slots[device], self.position[device]
        self.room.take(device, nbytes)
        self.placement.update(dict.fromkeys(group, device))
        del self.free[bisect_left(self.free, (slots.free_from, i))]
        slots.occupy(start, duration)
        insort(self.free, (slots.free_from, i))
        self.ready.update((value.name, start + duration) for value in op.outputs)
