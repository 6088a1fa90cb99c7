"""Interprets a Program on the cost model: what would run, when, on which device or link."""

from __future__ import annotations

import heapq
import os
from dataclasses import replace

from torchplace.compiler.graph import Graph, Op
from torchplace.compiler.instructions import Accumulate, Free, Instruction, Recv, Reduce, Run, Send, Update
from torchplace.compiler.lifetimes import Instance, Ledger, uses
from torchplace.compiler.program import Program
from torchplace.errors import ProgramError
from torchplace.placement.cost.compute import ComputeCost
from torchplace.placement.timeline import Event, Timeline
from torchplace.placement.topology.topology import Topology


def simulate(program: Program, graph: Graph, topology: Topology, cost: ComputeCost) -> Timeline:
    """Run a program on the cost model.

    A device does one instruction at a time, in order. A send costs its device nothing: the value leaves at once,
    or when the links of its route are free (a link carries one transfer at a time in each direction), and arrives
    after their latency plus its bytes over the narrowest bandwidth. Whoever uses it first waits for it.

    Args:
        program: what to run; `verify` must find no fault in it.
        graph: that it was lowered from.
        topology: devices and links.
        cost: seconds of an op on a device.

    Returns:
        The timeline, with peak memory. CPU devices that share cores are slowed down together, so that no more
        work is done than the cores can do.

    Raises:
        ProgramError: the program cannot end (a deadlock), or has an instruction that cannot be simulated yet.

    Cost: O(n log d) for n instructions on d devices, plus the ops of the segments once.
    """
    timeline = _Simulation(program, graph, topology, cost).run()
    return _share_cores(timeline, topology)


class _Simulation:
    """The state of one simulation: a clock and a position for each device, and when each link is free."""

    def __init__(self, program: Program, graph: Graph, topology: Topology, cost: ComputeCost) -> None:
        self.program, self.topology, self.cost = program, topology, cost
        self.ops = {op.name: op for op in graph.ops}
        self.writers: dict[str, Op] = {name: op for op in graph.ops for name in op.mutates}
        self.lists = {d: program.instructions.get(d, []) for d in program.devices}
        self.at = dict.fromkeys(program.devices, 0)
        self.clock = dict.fromkeys(program.devices, 0.0)
        self.ledgers = {d: Ledger(program, d) for d in program.devices}
        self.arrived: dict[tuple[str, Instance], float] = {}
        self.waiting: dict[tuple[str, Instance], str] = {}
        self.coming: dict[str, set[Instance]] = {d: set() for d in program.devices}
        self.free_at: dict[str, float] = {}
        self.durations: dict[str, float] = {}
        self.events: list[Event] = []

    def run(self) -> Timeline:
        queue = [(0.0, i, d) for i, d in enumerate(self.program.devices)]
        index = {d: i for i, d in enumerate(self.program.devices)}
        while queue:
            time, _, device = heapq.heappop(queue)
            for ready in self._step(device, time):
                heapq.heappush(queue, (self.clock[ready], index[ready], ready))
        stuck = [d for d in self.at if self.at[d] < len(self.lists[d])]
        if stuck:
            raise ProgramError(f"'{self.lists[stuck[0]][self.at[stuck[0]]]}' on {stuck[0]} waits for ever")
        peaks = {d: ledger.peak for d, ledger in self.ledgers.items()}
        return Timeline(sorted(self.events, key=lambda e: e.start), peaks)

    def _step(self, device: str, now: float) -> list[str]:
        """Do one instruction of a device; returns the devices that can go on: itself, and whoever it woke."""
        if self.at[device] >= len(self.lists[device]):
            return []
        instruction = self.lists[device][self.at[device]]
        for instance in uses(instruction):
            if instance in self.coming[device] and not self._received(device, instance):
                return []
        if self.clock[device] > now:  # it waited: others may want the links before
            return [device]
        self.ledgers[device].step(instruction)
        woken = self._do(device, instruction)
        self.at[device] += 1
        return [device, *woken]

    def _received(self, device: str, instance: Instance) -> bool:
        """Whether a value has come; if so, the device's clock is set to when it had, else the device waits."""
        time = self.arrived.get((device, instance))
        if time is None:
            self.waiting[device, instance] = device
            return False
        self.coming[device].discard(instance)
        start = self.clock[device]
        self.clock[device] = max(start, time)
        return True

    def _do(self, device: str, instruction: Instruction) -> list[str]:
        start = self.clock[device]
        match instruction:
            case Run():
                self.clock[device] = start + self._duration(instruction.segment, device)
            case Update():
                self.clock[device] = start + self._time(self.writers[instruction.state], device)
            case Send():
                return self._send(device, instruction, start)
            case Recv():
                self.coming[device].add((instruction.value, instruction.microbatch))
                return []
            case Free():
                return []
            case Accumulate():
                pass
            case Reduce():
                raise ProgramError(f"'{instruction}' on {device}: collectives are not simulated yet")
        self.events.append(Event(device, instruction, start, self.clock[device]))
        return []

    def _duration(self, segment: str, device: str) -> float:
        if segment not in self.durations:
            ops = self.program.segments[segment].ops
            self.durations[segment] = sum(self._time(self.ops[name], device) for name in ops)
        return self.durations[segment]

    def _time(self, op: Op, device: str) -> float:
        return self.cost.time(op, self.topology.device(device))

    def _send(self, device: str, send: Send, now: float) -> list[str]:
        route = self.topology.route(device, send.to)
        names = tuple(f"{link.source}->{link.target}" for link in route.links)
        nbytes = self.program.values[send.value].nbytes
        start = max([now, *(self.free_at.get(name, 0.0) for name in names)])
        end = start + route.time(nbytes)
        for name in names:
            self.free_at[name] = end - route.latency
        instance = (send.value, send.microbatch)
        self.arrived[send.to, instance] = end
        self.events.append(Event(device, send, start, end, names, nbytes))
        woken = self.waiting.pop((send.to, instance), None)
        return [] if woken is None else [woken]


def _share_cores(timeline: Timeline, topology: Topology) -> Timeline:
    """Stretch a timeline in which this machine's CPU devices do more work than the cores that they share can do."""
    cores = os.cpu_count() or 1
    threads = {d.name: min(d.threads or cores, cores) for d in topology.devices if d.kind == "cpu"}
    work = sum(seconds * threads.get(device, 0) for device, seconds in timeline.work.items()) / cores
    if work <= timeline.duration:
        return timeline
    stretch = work / timeline.duration
    events = [replace(e, start=e.start * stretch, end=e.end * stretch) for e in timeline.events]
    return Timeline(events, timeline.peak_memory)
