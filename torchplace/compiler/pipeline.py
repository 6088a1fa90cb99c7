"""Graph + placement + order -> Program of several micro-batches: the lowering of a pipeline."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torchplace.compiler.footprint import Workspace, measure_segments, no_workspace
from torchplace.compiler.graph import STATE, Graph, Op, Value
from torchplace.compiler.instructions import Accumulate, Instruction, Recv, Run, Send, Update
from torchplace.compiler.lifetimes import insert_frees
from torchplace.compiler.lower import at_owners, only_writes
from torchplace.compiler.order import Delay, Duration, no_delay, unit_duration
from torchplace.compiler.program import Entry, Exit, Program, Segment, Slot
from torchplace.compiler.schedule.orders import Orders
from torchplace.compiler.slots import describe_values, local_roots
from torchplace.compiler.tasks import Task, first_user, make_tasks
from torchplace.errors import ProgramError


def pipeline_tasks(graph: Graph, placement: Mapping[str, str], owners: Mapping[str, str]) -> list[Task]:
    """The tasks that a schedule orders, with state written where it lives.

    Args:
        graph: forward, and in training loss and backward, of a micro-batch.
        placement: op name -> device.
        owners: input name -> device, of state.
    """
    return make_tasks(graph, at_owners(graph, placement, owners))


def lower_pipeline(
    graph: Graph,
    placement: Mapping[str, str],
    devices: tuple[str, ...],
    owners: Mapping[str, str],
    orders: Orders,
    microbatches: int,
    duration: Duration = unit_duration,
    delay: Delay = no_delay,
    workspace: Workspace = no_workspace,
    whole: bool = True,
    tasks: Sequence[Task] | None = None,
) -> Program:
    """Lower a graph of one micro-batch for a placement and the order in which devices do its tasks.

    What a device does for a micro-batch at a stretch is one segment, the same for all micro-batches. A value leaves
    when its segment ends. All devices' lists are cuts through one global order of events, as in `lower`, so the program
    cannot deadlock. Gradients of parameters are added up where they are made; the sum ends on the parameter's owner.

    Args:
        graph: forward, and in training loss and backward, of a micro-batch.
        placement: op name -> device name, for every op.
        devices: all devices of the program, in the topology's order.
        owners: input name, and full name of a parameter -> device, for state.
        orders: for every device, its tasks (`pipeline_tasks`) of every micro-batch, each once.
        microbatches: how many pass through.
        duration: seconds of an op on a device, for the global order.
        delay: seconds of a transfer, for the global order.
        workspace: bytes that an op takes on a device and gives back, for the peaks of segments.
        whole: a backward and the weight gradients right behind it are one piece of work; else that is so only where no
            other device waits for the backward.
        tasks: `pipeline_tasks` of these, where they are known already.

    Returns:
        The program; its outputs are those of the graph: every micro-batch's, or a gradient's sum.

    Raises:
        ProgramError: the orders wait for each other in a circle, or leave something out.

    Cost: linear in micro-batches x edges.
    """
    tasks = pipeline_tasks(graph, placement, owners) if tasks is None else tasks
    lowering = _Pipeline(graph, placement, devices, owners, orders, microbatches, whole, tasks)
    program = lowering.run(duration, delay)
    measure_segments(program, graph, workspace)
    return program


def sum_name(gradient: str) -> str:
    """What the sum of a gradient over micro-batches is called; no op of a captured graph has such a name."""
    return f"{gradient}.sum"


@dataclass(frozen=True)
class _Unit:
    """What a device does for a micro-batch without a break.

    Attributes:
        device: which.
        tasks: their numbers.
        microbatch: for which.
    """

    device: str
    tasks: tuple[int, ...]
    microbatch: int


@dataclass(frozen=True)
class _Piece:
    """A part of what a unit does.

    Attributes:
        run: the instruction, for micro-batch 0.
        sums: gradients that are added up behind it, and the names of their sums.
    """

    run: Run
    sums: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Body:
    """What a unit does, in every micro-batch.

    Attributes:
        pieces: what it runs, one after the other; none if it only writes state.
        updates: state that is written behind them.
        hands_on: values of the caller's that leave before it, and to where.
        sends: values that leave behind it, and to where.
        after: tasks that it needs, not its own.
        behind: tasks whose micro-batch before must be done.
        seconds: that it takes.
    """

    pieces: tuple[_Piece, ...]
    updates: tuple[Update, ...]
    hands_on: tuple[tuple[Value, str], ...]
    sends: tuple[tuple[Value, str], ...]
    after: tuple[int, ...]
    behind: tuple[int, ...]
    seconds: float


_PENDING = 8
"""A device's gradients are added up when an eighth of their bytes has been made, so that no more waits for it."""


class _Pipeline:
    """The state of one lowering."""

    def __init__(
        self,
        graph: Graph,
        placement: Mapping[str, str],
        devices: tuple[str, ...],
        owners: Mapping[str, str],
        orders: Orders,
        microbatches: int,
        whole: bool,
        tasks: Sequence[Task],
    ) -> None:
        self.whole, self.tasks = whole, tasks
        self.graph, self.devices, self.owners, self.count = graph, devices, owners, microbatches
        self.placement = at_owners(graph, placement, owners)
        self.task_of = {op: task.number for task in self.tasks for op in task.ops}
        self.users = graph.users
        self.first = {v.name: first_user(self.users[v.name], self.task_of) for v in graph.inputs}
        self.entry = {v.name: self._start_of(v) for v in graph.inputs}
        self.where = dict(self.entry)
        self.where.update((v.name, self.placement[op.name]) for op in graph.ops for v in op.outputs)
        self.wanted = {name for name, users in self.users.items() if users} | {v.name for v in graph.output_values}
        self.index = {op: i for i, op in enumerate(graph.ops)}
        self.units = {d: list(self._joined(d, orders.get(d, []))) for d in devices}
        self.bodies: dict[tuple[int, ...], _Body] = {}
        self.segments: dict[str, Segment] = {}
        self.lists: dict[str, list[Instruction]] = {d: [] for d in devices}
        self.sums = self._gradient_sums()
        self.summed: dict[str, list[str]] = {}  # gradient -> its sums
        for i, name in self.sums.items():
            self.summed.setdefault(graph.outputs[i].value.name, []).append(name)
        self._require_all()

    def _start_of(self, value: Value) -> str:
        """Device on which an input starts: its owner, or that of the first task that takes it."""
        first = self.first[value.name]
        return self.owners.get(value.name) or (self.devices[0] if first is None else self.placement[first.name])

    def _maker(self, value: Value) -> Op:
        """The op with which a value that is sent leaves."""
        maker = value.producer or self.first[value.name]
        assert maker is not None
        return maker

    def _require_all(self) -> None:
        """Check that every task is done once for every micro-batch, by its device."""
        done = sorted((n, u.microbatch) for units in self.units.values() for u in units for n in u.tasks)
        wanted = [(task.number, k) for task in self.tasks for k in range(self.count)]
        astray = [
            u for d, units in self.units.items() for u in units if any(self.tasks[n].device != d for n in u.tasks)
        ]
        if done != wanted or astray:
            raise ProgramError(
                f"the orders of {self.graph.name!r} do {len(done)} tasks, {len(astray)} of them on another device than "
                f"theirs; expected {len(wanted)}: each task once for each micro-batch, where it is placed"
            )

    def _joined(self, device: str, order: Sequence[tuple[int, int]]) -> Iterator[_Unit]:
        """Backward and weight gradients that follow each other are one: nothing comes between tasks of one level.

        So their ops run in the order of the program, and activations are dropped as soon as eager drops them.
        """
        held: list[int] = []
        last = -1
        for number, k in order:
            task = self.tasks[number]
            if held and not (k == last and self._follows(self.tasks[held[-1]], task)):
                yield _Unit(device, tuple(held), last)
                held = []
            held.append(number)
            last = k
        if held:
            yield _Unit(device, tuple(held), last)

    def _follows(self, first: Task, second: Task) -> bool:
        """Whether a task can be one with that before it: then it makes it wait for nothing new."""
        if first.level != second.level or (first.phase, second.phase) != ("backward", "weight-grad"):
            return False
        if not self.whole and any(self._others(v) for op in first.ops for v in op.outputs):
            return False
        return all(n in first.after or self.tasks[n].device == second.device for n in second.after)

    def _gradient_sums(self) -> dict[int, str]:
        """Place of an output that is a parameter's gradient -> name of its sum."""
        parameters = {v.path for v in self.graph.inputs if v.kind == "parameter"}
        sums: dict[int, str] = {}
        for i, output in enumerate(self.graph.outputs):
            if output.kind == "gradient" and isinstance(output.value, Value) and output.path in parameters:
                name = sum_name(output.value.name)
                sums[i] = name if name not in sums.values() else f"{name}{i}"
        return sums

    def run(self, duration: Duration, delay: Delay) -> Program:
        outputs = tuple(self._exits())
        exits = {e.value for e in outputs}
        for units in self.units.values():
            for unit in units:
                self._body(unit, duration, exits)
        self._state_transfers()
        self._emit(delay)
        self._sum_transfers()
        program = Program(
            self.graph.name,
            self.devices,
            inputs={v.name: self._entry(v) for v in self.graph.inputs},
            outputs=outputs,
            microbatches=self.count,
            segments=self.segments,
            instructions=self.lists,
        )
        describe_values(program, self.graph, local_roots(self.graph, self.where))
        made = {name: self.graph.outputs[i].value for i, name in self.sums.items()}
        program.values.update((name, Slot(v.storage_bytes)) for name, v in made.items() if isinstance(v, Value))
        insert_frees(program)
        return program

    def _entry(self, value: Value) -> Entry:
        resident = value.kind in STATE
        return Entry(self.entry[value.name], resident, not resident, not resident)

    def _exits(self) -> Iterator[Exit]:
        for i, output in enumerate(self.graph.outputs):
            value = output.value
            if not isinstance(value, Value):
                yield Exit(None)
            elif i in self.sums:
                yield Exit(self.sums[i], self._end_of(i))
            else:
                state = value.kind in STATE
                yield Exit(value.name, self.where[value.name], not state)

    def _end_of(self, i: int) -> str:
        """Device of a gradient's parameter."""
        output = self.graph.outputs[i]
        assert isinstance(output.value, Value)
        return self.owners.get(output.path, self.where[output.value.name])

    def _body(self, unit: _Unit, duration: Duration, exits: set[str | None]) -> None:
        if unit.tasks in self.bodies:
            return
        numbers = set(unit.tasks)
        ops = [op for n in unit.tasks for op in self.tasks[n].ops]
        ops.sort(key=self.index.__getitem__)
        writes = [op for op in ops if only_writes(op, self.wanted)]
        ran = [op for op in ops if op not in writes]
        after = {n for number in numbers for n in self.tasks[number].after} - numbers
        self.bodies[unit.tasks] = _Body(
            tuple(self._piece(unit.device, part, exits) for part in self._parts(ran)),
            tuple(Update(op.mutates[0], op.args[1].name) for op in writes),
            tuple(self._hands_on(ran)),
            tuple(self._sends(ran)),
            tuple(sorted(after)),
            tuple(sorted({n for number in numbers for n in self.tasks[number].behind} - numbers)),
            sum(duration(op, unit.device) for op in ops),
        )

    def _parts(self, ran: list[Op]) -> list[list[Op]]:
        """Ops in pieces, each of which makes only so many bytes of gradients that are to be added up."""
        made = [sum(v.storage_bytes for v in op.outputs if v.name in self.summed) for op in ran]
        limit, left, pending = sum(made) / _PENDING, sum(made), 0
        parts: list[list[Op]] = [[]]
        for op, nbytes in zip(ran, made, strict=True):
            parts[-1].append(op)
            pending, left = pending + nbytes, left - nbytes
            if nbytes and left and pending >= limit:
                parts.append([])
                pending = 0
        return [part for part in parts if part]

    def _piece(self, device: str, ran: list[Op], exits: set[str | None]) -> _Piece:
        made = {v.name for op in ran for v in op.outputs}
        taken = tuple(dict.fromkeys(v.name for op in ran for v in op.inputs if v.name not in made))
        given = tuple(v.name for op in ran for v in op.outputs if self._leaves(v, set(ran), exits))
        name = f"s{len(self.segments)}"
        self.segments[name] = Segment(name, device, tuple(op.name for op in ran))
        return _Piece(Run(name, taken, given), tuple((n, into) for n in given for into in self.summed.get(n, ())))

    def _leaves(self, value: Value, ran: set[Op], exits: set[str | None]) -> bool:
        return (
            value.name in self.summed or value.name in exits or any(user not in ran for user in self.users[value.name])
        )

    def _sends(self, ran: Collection[Op]) -> Iterator[tuple[Value, str]]:
        """What ops make and other devices take, and where to."""
        for value in (v for op in ran for v in op.outputs):
            yield from ((value, device) for device in self._others(value))

    def _hands_on(self, ran: Collection[Op]) -> Iterator[tuple[Value, str]]:
        """What the caller gives to the first of some ops, and other devices take, and where to."""
        for value in dict.fromkeys(v for op in ran for v in op.inputs if v.producer is None and v.kind not in STATE):
            if self.first[value.name] in ran:
                yield from ((value, device) for device in self._others(value))

    def _others(self, value: Value) -> list[str]:
        """The devices that take a value and do not have it."""
        there = dict.fromkeys(self.placement[u.name] for u in self.users[value.name])
        return [device for device in there if device != self.where[value.name]]

    def _state_transfers(self) -> None:
        """State goes once, before all else, to devices that use it and do not own it."""
        written = {name for op in self.graph.ops for name in op.mutates}
        for value in self.graph.inputs:
            here = self.where[value.name]
            for device in self._others(value) if value.kind in STATE else ():
                if value.name in written and self.count > 1:
                    raise ProgramError(
                        f"state {value.path or value.name!r} is written on {here} in every micro-batch and read on "
                        f"{device}; keep what uses it together, or take microbatches=1"
                    )
                self._transfer(value.name, here, device, 0)

    def _transfer(self, name: str, here: str, there: str, k: int) -> None:
        self.lists[here].append(Send(name, there, k))
        self.lists[there].append(Recv(name, here, k))

    def _emit(self, delay: Delay) -> None:
        """Write all units, and what leaves behind them, in the one global order."""
        for _, what in sorted(self._events(delay), key=lambda e: e[0]):
            if isinstance(what, _Unit):
                self._append(what)
            else:
                value, there, k = what
                self._transfer(value.name, self.where[value.name], there, k)

    def _events(self, delay: Delay) -> Iterator[tuple[tuple[float, int], _Unit | tuple[Value, str, int]]]:
        """Let every device do its units in order, each when all that it needs has come: ((time, serial), what).

        Raises:
            ProgramError: nobody can go on.
        """
        ended: dict[tuple[int, int], float] = {}  # (task, micro-batch) -> when
        arrived: dict[tuple[int, str, int], float] = {}  # (task, device, micro-batch) -> when its values are there
        at, busy = dict.fromkeys(self.devices, 0), dict.fromkeys(self.devices, 0.0)
        serial, waiting = 0, [d for d in self.devices if self.units[d]]
        while waiting:
            before = serial
            for device in waiting:
                while at[device] < len(self.units[device]):
                    unit = self.units[device][at[device]]
                    body, k = self.bodies[unit.tasks], unit.microbatch
                    earlier = [(n, k - 1) for n in body.behind if k]
                    if any(done not in ended for done in (*earlier, *((n, k) for n in body.after))):
                        break
                    come = (arrived.get((n, device, k), ended[n, k]) for n in body.after)
                    begun = max([busy[device], *come, *(ended[done] for done in earlier)])
                    end = busy[device] = begun + body.seconds
                    ended.update(((n, k), end) for n in unit.tasks)
                    leaving = [(v, there, begun) for v, there in body.hands_on]
                    rows: list[_Unit | tuple[Value, str, int]] = [*((v, there, k) for v, there, _ in leaving), unit]
                    leaving += [(v, there, end) for v, there in body.sends]
                    rows += [(v, there, k) for v, there in body.sends]
                    for value, there, left in leaving:
                        maker = self.task_of[self._maker(value)]
                        come_at = left + delay(value, device, there)
                        arrived[maker, there, k] = max(come_at, arrived.get((maker, there, k), 0.0))
                    for what in rows:
                        yield (end if isinstance(what, tuple) and what[0].producer else begun, serial), what
                        serial += 1
                    at[device] += 1
            waiting = [d for d in waiting if at[d] < len(self.units[d])]
            if serial == before:
                stuck = [f"{d}: {self.tasks[self.units[d][at[d]].tasks[0]]}" for d in waiting]
                raise ProgramError(f"the orders of {self.graph.name!r} wait for each other: {'; '.join(stuck[:4])}")

    def _append(self, unit: _Unit) -> None:
        body, k, out = self.bodies[unit.tasks], unit.microbatch, self.lists[unit.device]
        for piece in body.pieces:
            out.append(Run(piece.run.segment, piece.run.inputs, piece.run.outputs, k))
            out += [Accumulate(value, into, k) for value, into in piece.sums]
        out += [Update(u.state, u.value, k) for u in body.updates]

    def _sum_transfers(self) -> None:
        """Gradients that end on another device go there; what the caller gave is a gradient as it is."""
        for i, name in self.sums.items():
            value = self.graph.outputs[i].value
            assert isinstance(value, Value)
            here = self.where[value.name]
            if value.producer is None:
                self.lists[here] += [Accumulate(value.name, name, k) for k in range(self.count)]
            if here != self._end_of(i):
                self._transfer(name, here, self._end_of(i), 0)
