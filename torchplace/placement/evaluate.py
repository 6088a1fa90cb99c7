"""What a placement would cost: its programs, lowered, and their timelines, simulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torchplace.compiler.capture import Captured
from torchplace.compiler.graph import Graph, Op, Value
from torchplace.compiler.lower import lower
from torchplace.compiler.program import Program
from torchplace.placement.cost.communication import AlphaBeta
from torchplace.placement.cost.compute import ComputeCost
from torchplace.placement.cost.remembered import Remembered
from torchplace.placement.owners import owners
from torchplace.placement.simulate import simulate
from torchplace.placement.timeline import Timeline
from torchplace.placement.topology.topology import Topology


@dataclass(frozen=True)
class Evaluator:
    """Lowers and simulates placements of one captured graph on one topology; asks for the cost of an op once.

    Attributes:
        captured: the graph and the parts that run.
        topology: devices and links.
        cost: seconds of an op on a device.
        fixed: input name -> device, of state that lives somewhere already.
    """

    captured: Captured
    topology: Topology
    cost: ComputeCost
    fixed: Mapping[str, str]

    @cached_property
    def _cost(self) -> ComputeCost:
        return Remembered(self.cost, self.topology)

    def owners(self, placement: Mapping[str, str]) -> dict[str, str]:
        """Device of every state input of the whole graph."""
        return owners(self.captured.graph, placement, self.topology.device_names[0], self.fixed)

    def programs(self, placement: Mapping[str, str]) -> tuple[Program, ...]:
        """One program for each part of the captured graph."""
        state = self.owners(placement)
        state.update((v.path, state[v.name]) for v in self.captured.graph.inputs if v.path and v.name in state)
        links = AlphaBeta(self.topology)
        made: dict[str, str] = {}
        programs = []
        for part in self.captured.parts:
            program = lower(
                part,
                complete(part, placement, made, self.topology.device_names[0]),
                self.topology.device_names,
                {**made, **state},
                lambda op, device: self._cost.time(op, self.topology.device(device)),
                lambda value, source, target: links.time(source, target, value.nbytes),
            )
            ends = zip(part.outputs, program.outputs, strict=True)
            made.update((o.value.name, e.device) for o, e in ends if isinstance(o.value, Value))
            programs.append(program)
        return tuple(programs)

    def simulate(self, programs: tuple[Program, ...]) -> Timeline:
        """The timelines of the parts, one after the other; all state takes memory in each, used there or not."""
        timelines = []
        for program, part in zip(programs, self.captured.parts, strict=True):
            timeline = simulate(program, part, self.topology, self._cost)
            for device, nbytes in _idle_state(program, programs):
                timeline.peak_memory[device] += nbytes
            timelines.append(timeline)
        return Timeline.joined(timelines)


def _idle_state(program: Program, programs: tuple[Program, ...]) -> list[tuple[str, int]]:
    """(Device, bytes) of each piece of state that other programs of a step take, and this one does not."""
    idle: dict[str, tuple[str, int]] = {}
    for other in programs:
        for name, entry in other.inputs.items():
            if entry.resident and name not in program.inputs:
                idle[name] = (entry.device, other.values[name].nbytes)
    return list(idle.values())


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
