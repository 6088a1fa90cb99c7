"""synthesised: a schedule made for any placement, by list scheduling of its tasks."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torchplace.compiler.graph import Phase
from torchplace.compiler.schedule.orders import Orders
from torchplace.compiler.tasks import Item, Task, Waiting, stages

_FIRST: dict[Phase, int] = {"backward": 0, "forward": 1, "weight-grad": 2}


def synthesise(
    tasks: Sequence[Task],
    microbatches: int,
    seconds: Mapping[int, float],
    delay: Callable[[Task, Task], float],
    ahead: int = 1,
) -> Orders:
    """Let every device, whenever it is free, do what is most wanted of what is ready.

    Backward first, for others wait for it; then forward, as long as the device has not run too far ahead; weight
    gradients fill what would be idle, for nobody waits for them. So a chain of equal stages gets the zero-bubble
    schedules of Qi et al. (2023; `ahead` 1 is ZB-H1, 2 is near ZB-H2), and any other placement (branches, skips over
    stages, devices that are visited many times) one of the same kind. List scheduling: Graham (1966).

    Args:
        tasks: of `make_tasks`.
        microbatches: how many pass through.
        seconds: task -> how long it takes.
        delay: seconds between the end of a task and the start of one that takes its results, on another device.
        ahead: times the stages from a device to the last one: for so many micro-batches it may keep activations.

    Returns:
        The orders. A device that could do nothing else may run further ahead than it should.

    Cost: O(n log n) for n = tasks x micro-batches.
    """
    return _Greedy(list(tasks), microbatches, seconds, delay, ahead).run()


@dataclass
class _Device:
    """What a device has done, and could do.

    Attributes:
        limit: for how many micro-batches it may have begun the forward and not ended the backward.
        ready: by phase, what can be done now, the most wanted first.
        open: micro-batches that have begun and not ended.
        left: micro-batch -> backward tasks that are left of it.
        order: what was done.
        free: when it is free.
    """

    limit: int
    ready: dict[Phase, list[Item]] = field(default_factory=lambda: {phase: [] for phase in _FIRST})
    open: set[int] = field(default_factory=set)
    left: dict[int, int] = field(default_factory=dict)
    order: list[Item] = field(default_factory=list)
    free: float = 0.0

    def take(self, relaxed: bool) -> Item | None:
        """What it does next: None for nothing."""
        if self.ready["backward"]:
            return self._pop("backward")
        forward = self.ready["forward"]
        if forward and (relaxed or forward[0][0] in self.open or len(self.open) < self.limit):
            return self._pop("forward")
        return self._pop("weight-grad") if self.ready["weight-grad"] else None

    def _pop(self, phase: Phase) -> Item:
        k, number = heapq.heappop(self.ready[phase])
        return number, k

    def offer(self, phase: Phase, number: int, k: int) -> None:
        """Something can be done now."""
        heapq.heappush(self.ready[phase], (k, number))


class _Greedy:
    """The state of one list scheduling."""

    def __init__(
        self,
        tasks: list[Task],
        microbatches: int,
        seconds: Mapping[int, float],
        delay: Callable[[Task, Task], float],
        ahead: int,
    ) -> None:
        self.tasks, self.count, self.seconds, self.delay = tasks, microbatches, seconds, delay
        row = stages(tasks)
        self.devices = {d: _Device(ahead * (len(row) - i)) for i, d in enumerate(row)}
        for task in tasks:
            self.devices.setdefault(task.device, _Device(microbatches))
        for device, state in self.devices.items():
            backward = sum(t.device == device and t.phase == "backward" for t in tasks)
            state.left = dict.fromkeys(range(microbatches), backward)
        self.waiting = Waiting(tasks, microbatches)
        self.come: dict[Item, float] = {}  # when all that an item needs is there, as far as it is known
        self.clock: list[tuple[float, int, Item | str]] = []
        self.serial = 0

    def run(self) -> Orders:
        for first in self.waiting.ready:
            self._at(0.0, first)
        done = 0
        while done < len(self.waiting):
            now, touched = self._hear()
            for state in touched:
                if state.free <= now and (item := state.take(False)) is not None:
                    self._do(state, item, now)
                    done += 1
            if not self.clock and done < len(self.waiting):
                # All wait for a device that has run as far ahead as it may.
                state = min((d for d in self.devices.values() if d.ready["forward"]), key=lambda d: d.ready["forward"])
                item = state.take(True)
                assert item is not None
                self._do(state, item, now)
                done += 1
        return {device: state.order for device, state in self.devices.items()}

    def _hear(self) -> tuple[float, list[_Device]]:
        """Let happen what happens next: the time, and the devices that it concerns."""
        now, touched = self.clock[0][0], dict[str, None]()
        while self.clock and self.clock[0][0] <= now:
            what = heapq.heappop(self.clock)[2]
            if isinstance(what, str):
                touched[what] = None
            else:
                task = self.tasks[what[0]]
                self.devices[task.device].offer(task.phase, *what)
                touched[task.device] = None
        return now, [self.devices[device] for device in touched]

    def _at(self, time: float, what: Item | str) -> None:
        heapq.heappush(self.clock, (time, self.serial, what))
        self.serial += 1

    def _do(self, state: _Device, item: Item, now: float) -> None:
        number, k = item
        task = self.tasks[number]
        state.order.append(item)
        state.free = end = now + self.seconds[number]
        self._at(end, task.device)
        if task.phase == "forward" and state.left[k]:
            state.open.add(k)
        elif task.phase == "backward":
            state.left[k] -= 1
            if not state.left[k]:
                state.open.discard(k)
        for then, same, ready in self.waiting.done(item):
            there = self.tasks[then[0]]
            come = end + (self.delay(task, there) if same and there.device != task.device else 0.0)
            self.come[then] = max(self.come.get(then, 0.0), come)
            if ready:
                self._at(self.come[then], then)
