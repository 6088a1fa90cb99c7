"""Interprets a Program on the cost model: what would run, when, on which device or link."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from itertools import count

from torchplace.compiler.graph import Graph, Op
from torchplace.compiler.instructions import Accumulate, Free, Instruction, Recv, Reduce, Run, Send, Update
from torchplace.compiler.lifetimes import Boundary, Instance, Ledger, active_devices, uses
from torchplace.compiler.program import Program
from torchplace.errors import ProgramError
from torchplace.placement.collective import Ring
from torchplace.placement.corunning import CoRunning, Load
from torchplace.placement.cost.compute import ComputeCost
from torchplace.placement.timeline import Event, Timeline
from torchplace.placement.topology.topology import Topology
from torchplace.placement.traffic import Traffic, Transfer


def simulate(program: Program, graph: Graph, topology: Topology, cost: ComputeCost) -> Timeline:
    """Run a program on the cost model.

    A device does one instruction at a time, in order, and each keeps it for what the host takes for it (`Host`). A send
    costs its device nothing more: transfers flow beside the computing, in order for each pair of devices (`Channel`),
    and share links (`Flows`); the event of one begins when its first byte leaves. Whoever uses or frees a received
    value first waits for it. Devices of a co-run group slow each other while they
    compute (`CoRunning`). A reduce holds all of its group from when the last has come to it (`Ring`).

    The host's call overhead stands half before and half behind the events; where several devices have something to do,
    their workers begin `start` seconds later, and the caller hears of their end as much later.

    Args:
        program: what to run; `verify` must find no fault in it.
        graph: that it was lowered from.
        topology: devices, links, co-run groups and host.
        cost: seconds of an op on a device.

    Returns:
        The timeline, with peak memory.

    Raises:
        ProgramError: the program cannot end (a deadlock).

    Cost: O(n log n) for n instructions, and what `Flows`, `Ring` and `CoRunning` say where transfers and segments meet.
    """
    return _Simulation(program, graph, topology, cost).run()


class _Simulation:
    """The state of one simulation: what will be done when, and how far each device has come."""

    def __init__(self, program: Program, graph: Graph, topology: Topology, cost: ComputeCost) -> None:
        self.program, self.topology, self.cost = program, topology.used(active_devices(program)), cost
        self.ops = {op.name: op for op in graph.ops}
        self.writers: dict[str, Op] = {name: op for op in graph.ops for name in op.mutates}
        self.agenda: list[tuple[float, int, Callable[[float], None]]] = []
        self.serial = count()
        self.boundary = Boundary(program)
        self.devices = {d: _Device(self, d) for d in program.devices}
        self.traffic = Traffic(topology, self.later)
        groups = [CoRunning(group, self.later) for group in topology.coruns]
        self.corunning = {d: running for running in groups for d in running.group.devices}
        self.meeting: dict[Reduce, list[_Device]] = {}
        self.rings: dict[tuple[str, ...], Ring] = {}
        self.loads: dict[str, Load] = {}
        self.events: list[tuple[float, int, Event]] = []

    def record(self, order: int, event: Event) -> None:
        """Write down what was done; what began at the same time stands in the order in which it began."""
        self.events.append((event.start, order, event))

    def later(self, time: float, what: Callable[[float], None]) -> None:
        """Have something done at a time; what is to be done at the same time is done in the order of asking."""
        heapq.heappush(self.agenda, (time, next(self.serial), what))

    def run(self) -> Timeline:
        host, program = self.topology.host, self.program
        several = host.start if sum(bool(i) for i in program.instructions.values()) > 1 else 0.0
        around = (host.call + host.argument * (len(program.inputs) + len(program.outputs))) / 2 + several
        for device in self.devices.values():
            self.later(around, device.go)
        while self.agenda:
            time, _, what = heapq.heappop(self.agenda)
            what(time)
        for device in self.devices.values():
            device.require_end()
        peaks = {name: device.ledger.peak for name, device in self.devices.items()}
        events = [e for *_, e in sorted(self.events, key=lambda e: e[:2])]
        return Timeline(events, peaks, tail=around if events else 2 * around)

    def ring(self, group: tuple[str, ...]) -> Ring:
        """The ring of a group of devices."""
        if group not in self.rings:
            routes = [self.topology.route(source, target) for source, target in _around(group)]
            self.rings[group] = Ring(routes, self.traffic.flows, self.later)
        return self.rings[group]

    def segment(self, name: str, device: str) -> Load:
        """What a segment asks of its device."""
        known = self.loads.get(name)
        if known is None:
            ops = [self.ops[op] for op in self.program.segments[name].ops]
            known = self.loads[name] = self.load(ops, device, self.topology.host.instruction)
        return known

    def load(self, ops: list[Op], device: str, dispatch: float = 0.0) -> Load:
        """What ops ask of a device, with so many seconds more for the host: the mean demand, by their time."""
        where = self.topology.device(device)
        times = [self.cost.time(op, where) for op in ops]
        total = sum(times)
        if device not in self.corunning:
            return Load(dispatch + total)
        demand = sum(t * self.cost.demand(op, where) for t, op in zip(times, ops, strict=True)) + dispatch
        host = dispatch + sum(min(t, where.launch_overhead) for t in times)
        seconds = dispatch + total
        return Load(seconds, demand / seconds, host / seconds) if seconds else Load(0.0)


class _Device:
    """One device: its list, how far it is in it, and what it waits for."""

    def __init__(self, simulation: _Simulation, name: str) -> None:
        self.simulation, self.name = simulation, name
        self.instructions = simulation.program.instructions.get(name, [])
        self.at = 0
        self.paid = False  # the host's time for the transfer that is next has passed
        self.ledger = Ledger(simulation.program, name, simulation.boundary)
        self.coming: dict[Instance, str] = {}  # what was posted and has not been used, and its source
        self.here: Counter[tuple[Instance, str]] = Counter()  # what has arrived and has not been used
        self.waiting: tuple[Instance, str] | None = None
        self.host = simulation.topology.host
        self.taken = 0  # values taken up that had come, since the last instruction that took time

    def go(self, now: float) -> None:
        """Do instructions until one takes time or has to wait."""
        while self.at < len(self.instructions):
            instruction = self.instructions[self.at]
            if self.coming and not self._ready(instruction):
                return
            if not self.paid and isinstance(instruction, (Send, Reduce)) and (seconds := self._handing(instruction)):
                self.paid = True
                self._compute(Load(seconds, grip=1.0), now, self.go)
                return
            if self._do(instruction, now):
                return

    def _ready(self, instruction: Instruction) -> bool:
        """Whether all that an instruction uses has come; else the device waits for the first that has not."""
        for instance in uses(instruction, self.simulation.boundary.shared):
            source = self.coming.get(instance)
            if source is not None:
                found = self.here.pop((instance, source), 0)
                if not found:
                    self.waiting = instance, source
                    return False
                self.taken += 1
                if found > 1:
                    self.here[instance, source] = found - 1
                del self.coming[instance]
        return True

    def _handing(self, instruction: Send | Reduce) -> float:
        """Seconds for which a transfer keeps the device before it flows."""
        seconds = self.host.send + self._taking()
        if isinstance(instruction, Send):
            waiting = self.simulation.devices[instruction.to].waiting
            seconds += self.host.wake if waiting is not None and waiting[1] == self.name else 0.0
        return seconds

    def _taking(self) -> float:
        """Seconds for the values that were taken up since this was asked last."""
        seconds, self.taken = self.taken * self.host.receive, 0
        return seconds

    def _do(self, instruction: Instruction, now: float) -> bool:
        """Do one instruction; returns whether it takes time, and will call `go` at its end."""
        self.paid = False
        self.ledger.step(instruction)
        self.at += 1
        match instruction:
            case Free():
                return False
            case Recv():
                self.coming[instruction.value, instruction.microbatch] = instruction.source
                return False
            case Send():
                self._send(instruction, now)
                return False
            case Reduce():
                self._meet(instruction, now)
                return True
            case Run():
                load = self.simulation.segment(instruction.segment, self.name)
            case Update():
                load = self.simulation.load([self.simulation.writers[instruction.state]], self.name)
            case Accumulate():
                load = self._accumulate(instruction)
        order = next(self.simulation.serial)

        def done(time: float) -> None:
            self.simulation.record(order, Event(self.name, instruction, now, time))
            self.go(time)

        self._compute(load.longer(self._taking()), now, done)
        return True

    def _accumulate(self, accumulate: Accumulate) -> Load:
        """To add a gradient to a sum, in place.

        Two are read and one is written. A CPU's bandwidth counts what is read and what is written, but its caches also
        fetch what is to be written: a sum in place, which has read that anyway, takes as long as a copy.
        """
        device = self.simulation.topology.device(self.name)
        moved = (2 if device.kind == "cpu" else 3) * self.simulation.program.values[accumulate.value].nbytes
        return Load(device.launch_overhead + moved / device.memory_bandwidth)

    def _compute(self, load: Load, now: float, done: Callable[[float], None]) -> None:
        """Let the device compute, together with what others compute that it shares something with."""
        running = self.simulation.corunning.get(self.name)
        if running is None or not load.seconds:
            self.simulation.later(now + load.seconds, done)
        else:
            running.run(now, load, done)

    def _send(self, send: Send, now: float) -> None:
        simulation, instance = self.simulation, (send.value, send.microbatch)
        channel, target = simulation.traffic.channel(self.name, send.to), simulation.devices[send.to]
        nbytes, order = simulation.program.values[send.value].nbytes, next(simulation.serial)

        def arrived(begun: float, time: float) -> None:
            simulation.record(order, Event(self.name, send, begun, time, channel.names, nbytes))
            target.receive(instance, self.name, time)

        channel.send(now, Transfer(nbytes, arrived))

    def receive(self, instance: Instance, source: str, now: float) -> None:
        """A value has arrived."""
        self.here[instance, source] += 1
        if self.waiting == (instance, source):
            self.waiting = None
            self.taken -= 1  # to take it up is a part of waking up, which the latency of the link stands for
            self.go(now)

    def _meet(self, reduce: Reduce, now: float) -> None:
        """Wait for the others of a collective; the last to come starts it."""
        simulation, group = self.simulation, reduce.group
        met = simulation.meeting.setdefault(reduce, [])
        met.append(self)
        if len(met) < len(group):
            return
        del simulation.meeting[reduce]
        nbytes = simulation.program.values[reduce.value].nbytes
        sent = round(2 * (len(group) - 1) * nbytes / len(group))

        def done(time: float) -> None:
            for here, there in _around(group):
                names = simulation.traffic.channel(here, there).names
                simulation.record(next(simulation.serial), Event(here, reduce, now, time, names, sent))
            for name in group:
                simulation.devices[name].go(time)

        simulation.ring(group).all_reduce(now, nbytes, done)

    def require_end(self) -> None:
        """Check that nothing is left to do.

        Raises:
            ProgramError: an instruction waits for something that never comes.
        """
        stuck = next((met for met in self.simulation.meeting.values() if self in met), None)
        if stuck is not None or self.at < len(self.instructions):
            at = self.at - 1 if stuck is not None else self.at
            raise ProgramError(f"'{self.instructions[at]}' on {self.name} waits for ever")


def _around(group: tuple[str, ...]) -> list[tuple[str, str]]:
    """Each member of a ring, and the next."""
    return list(zip(group, (*group[1:], group[0]), strict=True))
