"""The order in which ops run: list scheduling on each device, first what other devices wait for."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from math import inf

from torchplace.compiler.graph import Graph, Op, Value

Duration = Callable[[Op, str], float]
"""Seconds that an op takes on a device."""
Delay = Callable[[Value, str, str], float]
"""Seconds that a value takes from one device to another."""


def unit_duration(op: Op, device: str) -> float:
    """Every op takes one unit of time, views none: what is assumed where no costs are known."""
    return 0.0 if op.is_view else 1.0


def no_delay(value: Value, source: str, target: str) -> float:
    """Every transfer is at once: what is assumed where no costs are known."""
    return 0.0


def list_schedule(
    graph: Graph, placement: Mapping[str, str], duration: Duration = unit_duration, delay: Delay = no_delay
) -> dict[str, float]:
    """When each op starts, if every device runs, of the ops that are ready, the one that others wait for most.

    List scheduling (Graham 1966) by the longest way from an op to the end, of the ways that leave its device. So the
    gradients that go on to other devices come before those of parameters that stay: what zero-bubble schedules do
    within a step (Qi et al., "Zero Bubble Pipeline Parallelism", 2023, section 2). What nobody else waits for comes in
    program order, which keeps memory low (it is the order of eager). The result is deterministic.

    Args:
        graph: the ops.
        placement: op name -> device name.
        duration: seconds of an op on a device.
        delay: seconds of a transfer.

    Returns:
        Op name -> start, seconds, in the order in which ops were taken: of a device's ops that start at the same time
        the first come first. An op never starts before the ops that it depends on. Cost: O(E log V).
    """
    return _Schedule(graph, placement, duration, delay).run()


def hazards(graph: Graph) -> dict[Op, list[Op]]:
    """Op -> the ops that overwrite what it reads, and so must come after it."""
    writers: dict[str, list[int]] = {}
    for i, op in enumerate(graph.ops):
        for name in op.mutates:
            writers.setdefault(name, []).append(i)
    root = graph.storage() if writers else {}
    after: dict[Op, list[Op]] = {}
    for i, op in enumerate(graph.ops if writers else ()):
        overwritten = {j for v in op.inputs for j in writers.get(root[v.name], ()) if j > i}
        if overwritten:
            after[op] = [graph.ops[j] for j in sorted(overwritten)]
    return after


class _Schedule:
    """The state of the list scheduler: who waits for how much, and which device is free when."""

    def __init__(self, graph: Graph, placement: Mapping[str, str], duration: Duration, delay: Delay) -> None:
        self.ops, self.placement, self.duration, self.delay = graph.ops, placement, duration, delay
        self.users, self.followers = graph.users, hazards(graph)
        self.urgency = self._urgencies()
        self.ranked = sorted(graph.ops, key=lambda op: -self.urgency[op])  # stable: then as in the program
        self.index = {op: i for i, op in enumerate(self.ranked)}
        self.ready_at = dict.fromkeys(graph.ops, 0.0)
        self.waiting = {op: sum(v.producer is not None for v in op.inputs) for op in graph.ops}
        for follower in (f for after in self.followers.values() for f in after):
            self.waiting[follower] += 1
        devices = dict.fromkeys(placement.values())
        self.future: dict[str, list[tuple[float, int]]] = {d: [] for d in devices}
        self.ready: dict[str, list[int]] = {d: [] for d in devices}
        self.busy = dict.fromkeys(devices, 0.0)
        self.look = dict.fromkeys(devices, inf)  # when each device is looked at next; other clock entries are stale
        self.clock: list[tuple[float, str]] = []
        self.start: dict[str, float] = {}

    def _urgencies(self) -> dict[Op, float]:
        """Op -> seconds from its end to the end of all, the longest way that leaves its device; 0 where none does."""
        tail: dict[Op, float] = {}  # from its start, any way
        urgency: dict[Op, float] = {}
        for op in reversed(self.ops):
            here, rest, leaving = self.placement[op.name], 0.0, 0.0
            for value in op.outputs:
                for user in self.users[value.name]:
                    there = self.placement[user.name]
                    if there == here:
                        rest = max(rest, tail[user])
                        leaving = max(leaving, urgency[user] and urgency[user] + self.duration(user, here))
                    else:
                        leaving = max(leaving, self.delay(value, here, there) + tail[user])
            urgency[op] = leaving
            tail[op] = self.duration(op, here) + max(rest, leaving)
        return urgency

    def run(self) -> dict[str, float]:
        for op in self.ops:
            if self.waiting[op] == 0:
                self._release(op)
        while self.clock:
            time, device = heapq.heappop(self.clock)
            if time == self.look[device]:
                self.look[device] = inf
                self._step(time, device)
        return self.start

    def _release(self, op: Op) -> None:
        device = self.placement[op.name]
        heapq.heappush(self.future[device], (self.ready_at[op], self.index[op]))
        self._look_at(device, max(self.ready_at[op], self.busy[device]))

    def _look_at(self, device: str, time: float) -> None:
        if time < self.look[device]:
            self.look[device] = time
            heapq.heappush(self.clock, (time, device))

    def _step(self, time: float, device: str) -> None:
        """Start the most urgent op that is ready on a device that is free."""
        future, ready = self.future[device], self.ready[device]
        while future and future[0][0] <= time:
            heapq.heappush(ready, heapq.heappop(future)[1])
        if ready and future and self._better_to_wait(self.ranked[ready[0]], self.ranked[future[0][1]], time, device):
            self._look_at(device, future[0][0])
            return
        if ready:
            self._execute(self.ranked[heapq.heappop(ready)], time, device)
        if ready or future:
            self._look_at(device, max(self.busy[device], time if ready else future[0][0]))

    def _better_to_wait(self, op: Op, coming: Op, time: float, device: str) -> bool:
        """Whether a device should idle till what others wait for more is ready, rather than begin a long op now."""
        if self.urgency[coming] <= self.urgency[op]:
            return False
        long, short = self.duration(op, device), self.duration(coming, device)
        now = long + max(self.urgency[op], short + self.urgency[coming])
        later = self.ready_at[coming] - time + short + max(self.urgency[coming], long + self.urgency[op])
        return later < now

    def _execute(self, op: Op, time: float, device: str) -> None:
        self.start[op.name] = time
        end = self.busy[device] = time + self.duration(op, device)
        for value in op.outputs:
            for user in self.users[value.name]:
                there = self.placement[user.name]
                self._arrive(user, end if there == device else end + self.delay(value, device, there))
        for follower in self.followers.get(op, ()):
            self._arrive(follower, end)

    def _arrive(self, op: Op, time: float) -> None:
        self.ready_at[op] = max(self.ready_at[op], time)
        self.waiting[op] -= 1
        if self.waiting[op] == 0:
            self._release(op)
