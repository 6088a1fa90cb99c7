"""Graph + placement + order -> Program of several micro-batches: the lowering of a pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from torchplace.compiler.bodies import Bodies
from torchplace.compiler.events import Events
from torchplace.compiler.footprint import Workspace, measure_segments, no_workspace
from torchplace.compiler.graph import STATE, Graph, Value
from torchplace.compiler.instructions import Accumulate, Instruction, Recv, Run, Send, Update
from torchplace.compiler.lifetimes import insert_frees
from torchplace.compiler.lower import at_owners
from torchplace.compiler.order import Delay, Duration, no_delay, unit_duration
from torchplace.compiler.program import Entry, Exit, Program, Slot
from torchplace.compiler.residence import Residence
from torchplace.compiler.schedule.orders import Orders
from torchplace.compiler.slots import describe_values, local_roots
from torchplace.compiler.tasks import Task, make_tasks
from torchplace.compiler.units import Unit, join_units
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
        self.graph, self.devices, self.owners, self.count, self.tasks = graph, devices, owners, microbatches, tasks
        self.residence = Residence(graph, at_owners(graph, placement, owners), owners, devices, tasks)
        self.units = {d: list(join_units(d, orders.get(d, []), tasks, self.residence, whole)) for d in devices}
        self.sums = self._gradient_sums()
        summed: dict[str, list[str]] = {}  # gradient -> its sums
        for i, name in self.sums.items():
            summed.setdefault(graph.outputs[i].value.name, []).append(name)
        self.bodies = Bodies(graph, tasks, self.residence, summed)
        self.lists: dict[str, list[Instruction]] = {d: [] for d in devices}
        self._require_all()

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
        self.bodies.make(chain.from_iterable(self.units.values()), duration, exits)
        self._state_transfers()
        self._emit(delay)
        self._sum_transfers()
        program = Program(
            self.graph.name,
            self.devices,
            inputs={v.name: self._entry(v) for v in self.graph.inputs},
            outputs=outputs,
            microbatches=self.count,
            segments=self.bodies.segments,
            instructions=self.lists,
        )
        describe_values(program, self.graph, local_roots(self.graph, self.residence.where))
        made = {name: self.graph.outputs[i].value for i, name in self.sums.items()}
        program.values.update((name, Slot(v.storage_bytes)) for name, v in made.items() if isinstance(v, Value))
        insert_frees(program)
        return program

    def _entry(self, value: Value) -> Entry:
        resident = value.kind in STATE
        return Entry(self.residence.entry[value.name], resident, not resident, not resident)

    def _exits(self) -> Iterator[Exit]:
        for i, output in enumerate(self.graph.outputs):
            value = output.value
            if not isinstance(value, Value):
                yield Exit(None)
            elif i in self.sums:
                yield Exit(self.sums[i], self._end_of(i))
            else:
                state = value.kind in STATE
                yield Exit(value.name, self.residence.where[value.name], not state)

    def _end_of(self, i: int) -> str:
        """Device of a gradient's parameter."""
        output = self.graph.outputs[i]
        assert isinstance(output.value, Value)
        return self.owners.get(output.path, self.residence.where[output.value.name])

    def _state_transfers(self) -> None:
        """State goes once, before all else, to devices that use it and do not own it."""
        written = {name for op in self.graph.ops for name in op.mutates}
        for value in self.graph.inputs:
            here = self.residence.where[value.name]
            for device in self.residence.others(value) if value.kind in STATE else ():
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
        """Write all units, and what leaves before and behind them, in the one global order."""
        for what in Events(self.units, self.bodies, self.residence, self.tasks, delay).ordered():
            if isinstance(what, Unit):
                self._append(what)
            else:
                value, there, k = what
                self._transfer(value.name, self.residence.where[value.name], there, k)

    def _append(self, unit: Unit) -> None:
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
            here = self.residence.where[value.name]
            if value.producer is None:
                self.lists[here] += [Accumulate(value.name, name, k) for k in range(self.count)]
            if here != self._end_of(i):
                self._transfer(name, here, self._end_of(i), 0)
