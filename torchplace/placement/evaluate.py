"""What a placement would cost: its programs, lowered, and their timelines, simulated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torchplace.compiler.capture import Captured
from torchplace.compiler.carryover import NOTHING, Carryover, carry_over
from torchplace.compiler.footprint import Peak, find_peaks
from torchplace.compiler.graph import Graph, Op, Value
from torchplace.compiler.lifetimes import active_devices
from torchplace.compiler.lower import lower
from torchplace.compiler.program import Program
from torchplace.placement.cost.communication import AlphaBeta
from torchplace.placement.cost.compute import ComputeCost
from torchplace.placement.cost.remembered import Remembered
from torchplace.placement.cost.workspace import WorkspaceCost, estimated
from torchplace.placement.memory import memory_kinds
from torchplace.placement.owners import owners
from torchplace.placement.pipelining import Costs, Pipelining, pipelines
from torchplace.placement.simulate import simulate
from torchplace.placement.timeline import Timeline
from torchplace.placement.topology.topology import Topology

_ALIKE = 1.005
"""Schedules whose durations differ by less are as quick: predictions are no better."""


@dataclass(frozen=True)
class Outcome:
    """What a placement comes to.

    Attributes:
        programs: one for each part.
        timeline: of all of them.
        schedule: that a pipeline follows; "" for a single micro-batch.
    """

    programs: tuple[Program, ...]
    timeline: Timeline
    schedule: str = ""


@dataclass(frozen=True)
class Evaluator:
    """Lowers and simulates placements of one captured graph on one topology; asks for the cost of an op once.

    Attributes:
        captured: the graph and the parts that run.
        topology: devices and links.
        cost: seconds of an op on a device.
        fixed: input name -> device, of state that lives somewhere already.
        workspace: bytes that an op takes on a device and gives back.
        optimizer: input name -> bytes of optimizer state that live beside a parameter.
        pipelining: how many micro-batches of the graph a step has, and how they go through it; None for a single one.
    """

    captured: Captured
    topology: Topology
    cost: ComputeCost
    fixed: Mapping[str, str]
    workspace: WorkspaceCost = estimated
    optimizer: Mapping[str, int] = field(default_factory=dict)
    pipelining: Pipelining | None = None

    @cached_property
    def _cost(self) -> ComputeCost:
        return Remembered(self.cost)

    def owners(self, placement: Mapping[str, str]) -> dict[str, str]:
        """Device of every state input of the whole graph."""
        return owners(self.captured.graph, placement, self.topology.device_names[0], self.fixed)

    def outcome(self, placement: Mapping[str, str]) -> Outcome:
        """The programs of a placement, and what would run: in a pipeline, by the best of the schedules asked for.

        Of those that fit the devices the quickest is the best, or, of several that are nearly as quick, that which
        needs least memory; if none fits, that which lacks least.
        """
        if self.pipelining is None or self.pipelining.microbatches == 1:
            programs = self.programs(placement)
            return Outcome(programs, self.simulate(programs))
        found = []
        for name, program in self._pipelines(placement, self.pipelining):
            self._add_idle_state([program], [NOTHING])
            timeline = self.simulate((program,))
            found.append(Outcome((program,), timeline, name))
        least = min(self._lacking(o.timeline) for o in found)
        fitting = [o for o in found if self._lacking(o.timeline) == least]
        quickest = min(o.timeline.duration for o in fitting)
        alike = [o for o in fitting if o.timeline.duration <= _ALIKE * quickest]
        return min(alike, key=lambda o: sum(o.timeline.peak_memory.values()))

    def _lacking(self, timeline: Timeline) -> int:
        """Bytes that the devices lack, all together."""
        return sum(max(0, timeline.peak_memory.get(d.name, 0) - d.memory) for d in self.topology.devices)

    def _pipelines(self, placement: Mapping[str, str], wanted: Pipelining) -> Iterator[tuple[str, Program]]:
        used = self.topology.used(placement.values())
        devices = self.topology.device_names
        return pipelines(
            self.captured.graph, placement, devices, self._owners_by_name(placement), wanted, self._costs(used)
        )

    def _owners_by_name(self, placement: Mapping[str, str]) -> dict[str, str]:
        """Device of every state input, by the name of the value and by its full name in the model."""
        state = self.owners(placement)
        state.update((v.path, state[v.name]) for v in self.captured.graph.inputs if v.path and v.name in state)
        return state

    def _costs(self, used: Topology) -> Costs:
        links = AlphaBeta(self.topology)
        return Costs(
            lambda op, device: self._cost.time(op, used.device(device)),
            lambda value, source, target: links.time(source, target, value.nbytes),
            lambda op, device: self.workspace(op, used.device(device)),
        )

    def programs(self, placement: Mapping[str, str]) -> tuple[Program, ...]:
        """One program for each part of the captured graph, for a single micro-batch."""
        state = self._owners_by_name(placement)
        made: dict[str, str] = {}
        programs: list[Program] = []
        befores: list[Carryover] = []
        for i, part in enumerate(self.captured.parts):
            befores.append(carry_over(programs[-1], self.captured.parts[i - 1], part) if programs else NOTHING)
            placed = complete(part, placement, made, self.topology.device_names[0])
            costs = self._costs(self.topology.used(placed.values()))
            program = lower(
                part,
                placed,
                self.topology.device_names,
                {**made, **state},
                costs.duration,
                costs.delay,
                costs.workspace,
                befores[-1],
            )
            ends = zip(part.outputs, program.outputs, strict=True)
            made.update((o.value.name, e.device) for o, e in ends if isinstance(o.value, Value))
            programs.append(program)
        self._add_idle_state(programs, befores)
        return tuple(programs)

    def _add_idle_state(self, programs: Sequence[Program], befores: Sequence[Carryover]) -> None:
        """Let what programs do not touch take memory in each: other programs' state, and the optimizer's."""
        state: dict[str, tuple[str, int]] = {}
        for program in programs:
            state.update((n, (e.device, program.values[n].memory)) for n, e in program.inputs.items() if e.resident)
        for program, before in zip(programs, befores, strict=True):
            known = program.inputs.keys() | before.covered
            idle = [(device, "parameters", nbytes) for n, (device, nbytes) in state.items() if n not in known]
            held = [(state[n][0], "optimizer", nbytes) for n, nbytes in self.optimizer.items() if n in state]
            for device, what, nbytes in (*idle, *held):
                standing = program.background.setdefault(device, {})
                standing[what] = standing.get(what, 0) + nbytes

    def memory(self, programs: Sequence[Program]) -> dict[str, dict[str, int]]:
        """Device -> what takes memory when most is taken, in whichever part that is -> bytes."""
        peaks: dict[str, Peak] = {}
        for program, part in zip(programs, self.captured.parts, strict=True):
            used = self.topology.used(active_devices(program))
            found = find_peaks(
                program,
                part,
                memory_kinds(part, self.captured.graph),
                lambda op, device, used=used: self.workspace(op, used.device(device)),  # type: ignore[misc]
            )
            for name, peak in found.items():
                peaks[name] = max(peak, peaks.get(name, peak), key=lambda p: p.nbytes)
        return {name: peak.parts for name, peak in peaks.items()}

    def simulate(self, programs: tuple[Program, ...]) -> Timeline:
        """The timelines of the parts, one after the other."""
        parts = zip(programs, self.captured.parts, strict=True)
        return Timeline.joined(simulate(program, part, self.topology, self._cost) for program, part in parts)


def complete(part: Graph, placement: Mapping[str, str], made: Mapping[str, str], default: str) -> dict[str, str]:
    """A placement for every op of a part: those that the whole graph does not have go where their inputs are.

    Splitting a joint graph may add ops (the state of a random generator that checkpointing keeps).
    """
    where = dict(made)
    placed: dict[str, str] = {}
    for op in part.ops:
        placed[op.name] = placement.get(op.name) or _device_of_inputs(op, where, default)
        where.update((v.name, placed[op.name]) for v in op.outputs)
    return placed


def _device_of_inputs(op: Op, where: Mapping[str, str], default: str) -> str:
    return next((where[v.name] for v in op.inputs if v.name in where), default)
