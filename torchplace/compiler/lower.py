"""Graph + placement -> Program: transfers inserted, ops joined to segments, values freed after their last use."""

from __future__ import annotations

from collections.abc import Container, Mapping
from math import inf

from torchplace.compiler.carryover import NOTHING, Carryover
from torchplace.compiler.footprint import Workspace, measure_segments, no_workspace
from torchplace.compiler.graph import STATE, Graph, Op, Output, Value
from torchplace.compiler.instructions import Instruction, Recv, Run, Send, Update
from torchplace.compiler.lifetimes import insert_frees
from torchplace.compiler.order import Delay, Duration, list_schedule, no_delay, unit_duration
from torchplace.compiler.program import Entry, Exit, Program, Segment
from torchplace.compiler.slots import describe_values, local_roots
from torchplace.errors import ProgramError

_COPY = "aten.copy_.default"


def lower(
    graph: Graph,
    placement: Mapping[str, str],
    devices: tuple[str, ...],
    owners: Mapping[str, str] | None = None,
    duration: Duration = unit_duration,
    delay: Delay = no_delay,
    workspace: Workspace = no_workspace,
    before: Carryover = NOTHING,
) -> Program:
    """Lower a graph for a placement.

    All devices' lists are cuts through one global order of events, in which a transfer stands once: so no program
    made here can deadlock, even where a send waits for its receive. A value is sent once to each device that uses
    it, when it is needed there, and the sender's segment ends only then: segments are as large as the order allows.

    Args:
        graph: the ops.
        placement: op name -> device name, for every op.
        devices: all devices of the program, in the topology's order.
        owners: input name -> device on which it starts; where it says nothing, the first user's. A parameter's
            gradient ends on its owner too.
        duration: seconds of an op on a device, for the order.
        delay: seconds of a transfer, for the order.
        workspace: bytes that an op takes on a device and gives back, for the peaks of segments.
        before: what the step's program before this one leaves.

    Returns:
        The program; `verify` finds no fault in it.

    Raises:
        ProgramError: an op has no device, or an op or owner has one that is not among `devices`.

    Cost: O(E log V).
    """
    known = set(devices)
    for op in graph.ops:
        if placement.get(op.name) not in known:
            raise _no_device(f"op {op.name!r} is placed on", placement.get(op.name), devices)
    for name, device in (owners or {}).items():
        if device not in known:
            raise _no_device(f"input {name!r} is owned by", device, devices)
    program = _Lowering(graph, placement, devices, dict(owners or {}), duration, delay, before).run()
    measure_segments(program, graph, workspace)
    return program


def _no_device(what: str, device: str | None, devices: tuple[str, ...]) -> ProgramError:
    return ProgramError(f"{what} {device!r}; expected one of {list(devices)}")


def entry_devices(
    graph: Graph, placement: Mapping[str, str], owners: Mapping[str, str], default: str
) -> dict[str, str]:
    """Input name -> device on which it starts: its owner, or else the device of the first op that uses it."""
    entry = {v.name: owners[v.name] for v in graph.inputs if v.name in owners}
    for op in graph.ops:
        for value in op.inputs:
            if value.producer is None:
                entry.setdefault(value.name, placement[op.name])
    return {v.name: entry.get(v.name, default) for v in graph.inputs}


def at_owners(graph: Graph, placement: Mapping[str, str], owners: Mapping[str, str]) -> dict[str, str]:
    """The placement, with state written where it lives, wherever a solver would have put the op that writes it."""
    return {op.name: next((owners[n] for n in op.mutates if n in owners), placement[op.name]) for op in graph.ops}


def only_writes(op: Op, wanted: Container[str]) -> bool:
    """Whether an op copies a value into state, and nobody wants what it returns: that is an instruction of its own."""
    if op.target != _COPY or not op.mutates or any(v.name in wanted for v in op.outputs):
        return False
    return isinstance(op.args[1], Value)


class _Lowering:
    """The state of one lowering: what each device's list and open segment hold."""

    def __init__(
        self,
        graph: Graph,
        placement: Mapping[str, str],
        devices: tuple[str, ...],
        owners: Mapping[str, str],
        duration: Duration,
        delay: Delay,
        before: Carryover,
    ) -> None:
        self.graph, self.devices, self.duration, self.delay = graph, devices, duration, delay
        self.owners, self.before = owners, before
        self.entry = entry_devices(graph, placement, owners, devices[0])
        self.placement = at_owners(graph, placement, self.entry)
        self.where = dict(self.entry)
        self.where.update((v.name, self.placement[op.name]) for op in graph.ops for v in op.outputs)
        self.lists: dict[str, list[Instruction]] = {d: [] for d in devices}
        self.open: dict[str, dict[Op, None]] = {d: {} for d in devices}
        self.received: dict[str, set[str]] = {d: set() for d in devices}
        self.segments: dict[str, Segment] = {}
        self.wanted = self._values_wanted_outside()
        self.roots = local_roots(graph, self.where, before)

    def run(self) -> Program:
        for kind, what in self._events():
            if kind == 0:
                self._append(what)  # type: ignore[arg-type]
            else:
                self._transfer(*what)  # type: ignore[misc]
        for device in self.devices:
            self._close(device)
        program = Program(self.graph.name, self.devices, segments=self.segments, instructions=self.lists)
        program.inputs = {v.name: self._entry(v) for v in self.graph.inputs}
        program.background = {device: {"caller": nbytes} for device, nbytes in self.before.caller.items() if nbytes}
        program.outputs = tuple(
            Exit(o.value.name, self._end(o)) if isinstance(o.value, Value) else Exit(None) for o in self.graph.outputs
        )
        describe_values(program, self.graph, self.roots, self.before)
        insert_frees(program)
        return program

    def _entry(self, value: Value) -> Entry:
        resident = value.kind in STATE
        lent = not resident and (value.kind == "input" or value.name in self.before.lent)
        return Entry(self.entry[value.name], resident, lent)

    def _end(self, output: Output) -> str:
        """Device on which an output ends: with its parameter if it is a gradient, else where it is made."""
        made = self.where[output.value.name]
        return self.owners.get(output.path, made) if output.kind == "gradient" else made

    def _events(self) -> list[tuple[int, Op | tuple[Value, str]]]:
        """Ops and transfers in the one global order: by time; a transfer as late as its first user allows.

        What takes no time starts when the next op does: ties are broken by the order in which the scheduler took them.
        """
        start = list_schedule(self.graph, self.placement, self.duration, self.delay)
        taken = {name: i for i, name in enumerate(start)}
        index = {v.name: taken[op.name] for op in self.graph.ops for v in op.outputs}
        events: list[tuple[float, int, int, Op | tuple[Value, str]]] = [
            (start[op.name], taken[op.name], 0, op) for op in self.graph.ops
        ]
        for (name, there), (time, value) in self._transfers(start).items():
            events.append((self._leave(value, time, start), index.get(name, -1), 1, (value, there)))
        events.sort(key=lambda e: e[:3])
        return [(kind, what) for _, _, kind, what in events]

    def _leave(self, value: Value, latest: float, start: Mapping[str, float]) -> float:
        """When a value leaves that could leave as late as `latest`: where that is at once, before anything else begins.

        The latest time is a difference, whose rounding must not put it behind an op that begins when the value is made.
        """
        if value.producer is None:
            return max(latest, 0.0)
        begun = start[value.producer.name]
        made = begun + self.duration(value.producer, self.placement[value.producer.name])
        return made if latest <= made * (1 + 1e-9) else latest

    def _transfers(self, start: Mapping[str, float]) -> dict[tuple[str, str], tuple[float, Value]]:
        """(Value name, destination) -> the latest time at which it can leave, and the value."""
        transfers: dict[tuple[str, str], tuple[float, Value]] = {}

        def need(value: Value, there: str, time: float) -> None:
            here, key = self.where[value.name], (value.name, there)
            if here != there:
                leave = time - self.delay(value, here, there)
                transfers[key] = min(transfers.get(key, (inf, value)), (leave, value), key=lambda t: t[0])

        for op in self.graph.ops:
            for value in op.inputs:
                need(value, self.placement[op.name], start[op.name])
        for output in self.graph.outputs:
            if isinstance(output.value, Value):
                need(output.value, self._end(output), inf)
        return transfers

    def _append(self, op: Op) -> None:
        device = self.placement[op.name]
        if only_writes(op, self.wanted):
            self._close(device)
            self.lists[device].append(Update(op.mutates[0], op.args[1].name))
            return
        if self.received[device].intersection(v.name for v in op.inputs):
            # What is in the open segment need not wait for what has just been sent here.
            self._close(device)
        self.open[device][op] = None

    def _transfer(self, value: Value, there: str) -> None:
        here = self.where[value.name]
        if value.producer is not None and value.producer in self.open[here]:
            self._close(here)
        self.lists[here].append(Send(value.name, there))
        self.lists[there].append(Recv(value.name, here))
        self.received[there].add(value.name)

    def _close(self, device: str) -> None:
        ops, self.open[device] = self.open[device], {}
        self.received[device].clear()
        if not ops:
            return
        made = {v.name for op in ops for v in op.outputs}
        taken = dict.fromkeys(v.name for op in ops for v in op.inputs if v.name not in made)
        given = tuple(v.name for op in ops for v in op.outputs if self._leaves(v, ops))
        name = f"s{len(self.segments)}"
        self.segments[name] = Segment(name, device, tuple(op.name for op in ops))
        self.lists[device].append(Run(name, tuple(taken), given))

    def _leaves(self, value: Value, ops: Mapping[Op, None]) -> bool:
        return any(user not in ops for user in self.wanted.get(value.name, ()))

    def _values_wanted_outside(self) -> dict[str, list[Op | None]]:
        """Value name -> its users; None stands for the caller, who gets the outputs."""
        wanted: dict[str, list[Op | None]] = {}
        for op in self.graph.ops:
            for value in op.inputs:
                wanted.setdefault(value.name, []).append(op)
        for value in self.graph.output_values:
            wanted.setdefault(value.name, []).append(None)
        return wanted
