"""Where the time of a program went: computing, transfers, waiting, the host; device by device and on the critical path.

The same reading of a timeline that the simulator made and of one that a runtime did, though their sends differ: the
simulator's is the transfer itself, which keeps no device; the runtime's is the hand-over, which keeps its device, and
its `Recv` events are the waits of whoever needed a value that had not come.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from torchplace.compiler.instructions import Free, Instruction, Recv, Reduce, Send
from torchplace.compiler.lifetimes import Boundary, Instance, uses
from torchplace.compiler.program import Program
from torchplace.errors import ProgramError
from torchplace.placement.timeline import Event, Timeline


@dataclass
class Split:
    """Seconds by what they were spent on.

    Attributes:
        compute: in which ops run.
        transfer: in which a value is under way that somebody waits for.
        waiting: in which a device has nothing to do: what it needs has not been sent yet, or it is done.
        host: all else: calls, instructions, hand-overs.
    """

    compute: float = 0.0
    transfer: float = 0.0
    waiting: float = 0.0
    host: float = 0.0

    @property
    def total(self) -> float:
        """The sum."""
        return self.compute + self.transfer + self.waiting + self.host

    def add(self, other: Split) -> None:
        """Add what another has."""
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))


class Wait(NamedTuple):
    """A received value that an instruction was the first to use.

    Attributes:
        at: index of the instruction in its device's list.
        arrived: when the value had come.
        sent: when it began to move; the transfers before it on its way had left.
        source: device that sent it.
        send_at: index of the send in the source's list.
        queued: whether the transfer before it on its way was still under way when it was handed over.
    """

    at: int
    arrived: float
    sent: float
    source: str
    send_at: int
    queued: bool


class Step(NamedTuple):
    """Something that kept a device: a segment, an update, a hand-over; and its index in the device's list."""

    at: int
    event: Event


@dataclass
class Lane:
    """What one device did, in order, and the values that it waited for."""

    steps: list[Step] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)

    def before(self, index: int) -> Step | None:
        """The last step in front of an instruction."""
        found = bisect_left(self.steps, index, key=lambda step: step.at)
        return self.steps[found - 1] if found else None

    def waited(self, after: int, upto: int) -> Wait | None:
        """The value that came last, of those that the instructions behind one and up to another were first to use."""
        begin = bisect_left(self.waits, after + 1, key=lambda wait: wait.at)
        end = bisect_left(self.waits, upto + 1, key=lambda wait: wait.at)
        return max(self.waits[begin:end], key=lambda wait: wait.arrived, default=None)


class _Sent(NamedTuple):
    at: int
    event: Event
    queued: bool


class Account:
    """Where the time of one run of a program went.

    Attributes:
        begin: when the first instruction began, in seconds on the timeline.
        end: when all was over.
        devices: device -> the seconds between the two, by what it spent them on; those that did nothing wait.
        path: the same seconds along the critical path, that chain of segments, transfers and gaps that made it take
            as long. Waiting, there, is for a link that is taken by the transfer before.

    Cost: near-linear in the instructions.
    """

    def __init__(self, program: Program, timeline: Timeline, measured: bool) -> None:
        """Of a timeline of a program, simulated or measured.

        Raises:
            ProgramError: the timeline is of another program.
        """
        self.program, self.measured = program, measured
        self.begin = min((e.start for e in timeline.events), default=0.0)
        self.end = max((e.end for e in timeline.events), default=0.0)
        self._transfers: dict[tuple[str, str, Instance], deque[_Sent]] = defaultdict(deque)
        self._by_device: dict[str, deque[Event]] = defaultdict(deque)
        self._read(timeline)
        self.shared = Boundary(program).shared
        self.lanes = {d: self._lane(d, program.instructions.get(d, [])) for d in program.devices}
        for device, events in self._by_device.items():
            if events:
                raise ProgramError(f"the timeline is of another program: '{events[0].instruction}' on {device} is left")
        self.devices = {d: self._split(lane) for d, lane in self.lanes.items()}
        self.path = self._critical_path()

    def _read(self, timeline: Timeline) -> None:
        """Sort events by device, and sends by value."""
        sends: dict[tuple[str, str], deque[Event]] = defaultdict(deque)
        for event in timeline.events:
            if isinstance(event.instruction, Send):
                sends[event.device, event.instruction.to].append(event)
            if self.measured or not isinstance(event.instruction, Send):
                self._by_device[event.device].append(event)
        for device, instructions in self.program.instructions.items():
            before: dict[str, float] = {}  # when the last transfer to a device arrived
            for index, i in enumerate(instructions):
                if isinstance(i, Send):
                    event = _next(sends[device, i.to], i, device)
                    queued = not self.measured and before.get(i.to, -1.0) >= event.start
                    self._transfers[device, i.to, (i.value, i.microbatch)].append(_Sent(index, event, queued))
                    before[i.to] = event.end

    def _lane(self, device: str, instructions: Sequence[Instruction]) -> Lane:
        lane, events = Lane(), self._by_device[device]
        coming: dict[Instance, tuple[str, _Sent]] = {}
        for index, i in enumerate(instructions):
            if isinstance(i, Recv):
                instance = i.value, i.microbatch
                coming[instance] = i.source, self._transfers[i.source, device, instance].popleft()
                continue
            for instance in uses(i, self.shared):
                if instance in coming:
                    lane.waits += self._wait(index, instance, *coming.pop(instance), events)
            if not isinstance(i, Free) and (self.measured or not isinstance(i, Send)):
                lane.steps.append(Step(index, _next(events, i, device)))
        for instance, (source, sent) in coming.items():  # outputs that end here
            lane.waits += self._wait(len(instructions), instance, source, sent, events)
        return lane

    def _wait(self, at: int, instance: Instance, source: str, sent: _Sent, events: deque[Event]) -> Iterator[Wait]:
        """The wait for a value; none where a runtime had it already, or found it handed over."""
        arrived = sent.event.end
        if self.measured:
            if not events or events[0].instruction != Recv(instance[0], source, instance[1]):
                return
            received = events.popleft()
            if received.start >= sent.event.end:
                return
            arrived = received.end
        yield Wait(at, arrived, sent.event.start, source, sent.at, sent.queued)

    def _split(self, lane: Lane) -> Split:
        split, now, last = Split(), self.begin, -1
        for step in lane.steps:
            wait = lane.waited(last, step.at)
            _gap(split, now, step.event, wait)
            _spend(split, step.event)
            now, last = step.event.end, step.at
        wait = lane.waited(last, 1 << 62)
        if wait is not None:
            now = _arrive(split, now, wait)
        split.waiting += self.end - now
        return split

    def _critical_path(self) -> Split:
        """Walk back from what ended last, from each thing to the one that it had to wait for."""
        split = Split()
        device, at, now, idle = self._last()
        split.transfer += self.end - now
        while device:
            lane = self.lanes[device]
            step = lane.before(at)
            wait = lane.waited(-1 if step is None else step.at, at)
            before = self.begin if step is None else step.event.end
            came_last = wait is not None and wait.arrived > before
            _between(split, now - (wait.arrived if wait and came_last else before), idle)
            if wait is not None and came_last:
                split.transfer += wait.arrived - wait.sent
                device, at, now, idle = wait.source, wait.send_at, wait.sent, wait.queued
            elif step is not None:
                _spend(split, step.event)
                at, now = step.at, step.event.start
                idle = isinstance(step.event.instruction, Reduce)  # the others had not come
            else:
                break
        return split

    def _last(self) -> tuple[str, int, float, bool]:
        """What ended last: a device, at the end of its list; or a transfer, at its send and its start."""
        for device, lane in self.lanes.items():
            if lane.steps and lane.steps[-1].event.end == self.end:
                return device, len(self.program.instructions[device]), self.end, False
        for lane in self.lanes.values():
            for wait in lane.waits:
                if wait.arrived == self.end:
                    return wait.source, wait.send_at, wait.sent, wait.queued
        return "", 0, self.begin, False


def _next(events: deque[Event], instruction: Instruction, device: str) -> Event:
    """The next event, which must be that of an instruction."""
    if not events or events[0].instruction != instruction:
        found = f"'{events[0].instruction}'" if events else "nothing"
        raise ProgramError(f"the timeline is of another program: on {device}, it has {found} for '{instruction}'")
    return events.popleft()


def _gap(split: Split, now: float, event: Event, wait: Wait | None) -> None:
    """Count the seconds in front of an event in which its device did nothing."""
    if isinstance(event.instruction, Reduce):  # the others had not come
        split.waiting += event.start - now
        return
    if wait is not None:
        now = _arrive(split, now, wait)
    split.host += event.start - now


def _arrive(split: Split, now: float, wait: Wait) -> float:
    """Count the seconds till a value was sent, and those till it came; returns when that was, or `now` if earlier."""
    if wait.arrived <= now:
        return now
    sent = min(max(wait.sent, now), wait.arrived)
    split.waiting += sent - now
    split.transfer += wait.arrived - sent
    return wait.arrived


def _spend(split: Split, event: Event) -> None:
    """Count what kept a device."""
    seconds = event.end - event.start
    if isinstance(event.instruction, Send):
        split.host += seconds
    elif isinstance(event.instruction, Reduce):
        split.transfer += seconds
    else:
        split.compute += seconds


def _between(split: Split, seconds: float, idle: bool) -> None:
    """Count what lies in front of something on the critical path."""
    if idle:
        split.waiting += seconds
    else:
        split.host += seconds


def step_account(accounts: Sequence[Account], seconds: float) -> tuple[Mapping[str, Split], Split]:
    """A whole step: programs one after the other, and the host around them.

    Args:
        accounts: of each program that ran, in order.
        seconds: that the step took.

    Returns:
        Device -> its split, for those that did something, and the critical path's; each adds up to `seconds`.
    """
    path, devices = Split(), {d: Split() for a in accounts for d, lane in a.lanes.items() if lane.steps or lane.waits}
    inside = 0.0
    for account in accounts:
        inside += account.end - account.begin
        path.add(account.path)
        for device, split in devices.items():
            split.add(account.devices.get(device, Split(waiting=account.end - account.begin)))
    for split in (path, *devices.values()):
        split.host += seconds - inside
    return devices, path
