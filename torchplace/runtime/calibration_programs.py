"""The synthetic programs that this machine is calibrated with, run on two CPU devices: none is a plan that matters."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from torchplace.compiler.capture import Captured
from torchplace.compiler.dry import capture_dry
from torchplace.compiler.graph import Graph, Op
from torchplace.compiler.program import Program
from torchplace.placement.cost.compute import ComputeCost
from torchplace.placement.cost.measured import Measured
from torchplace.placement.cost.store import CostStore
from torchplace.placement.evaluate import Evaluator
from torchplace.placement.timeline import Timeline
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.local import LocalRuntime
from torchplace.runtime.op_times import measure_ops

CALLS, WARM = 25, 3
"""How often a program is run, after some times that do not count."""

Place = Callable[[Captured], dict[str, str]]
"""Chooses a device for each op."""


class Chain(nn.Module):
    """Layers one after the other; narrow ones are all overhead."""

    def __init__(self, layers: int, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, width] to [n, width]."""
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


class Cells(nn.Module):
    """Gated cells in two branches that look at each other: products among many small ops, as models mix them."""

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.gates = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, width] to [n, width]."""
        states = [x, -x]
        for step in range(self.steps):
            gated = [gate(state).chunk(2, -1) for gate, state in zip(self.gates, states, strict=True)]
            states = [torch.sigmoid(a) * torch.tanh(b) + s * 0.5 for (a, b), s in zip(gated, states, strict=True)]
            if step % 4 == 3:
                states = [states[0] + states[1], states[1] - states[0]]
        return states[0] + states[1]


@dataclass(frozen=True)
class Ran:
    """A synthetic program that was run.

    Attributes:
        topology: it was run on.
        program: what was run.
        graph: that it was lowered from.
        cost: of its ops, as they were measured alone.
        timelines: of its runs.
    """

    topology: Topology
    program: Program
    graph: Graph
    cost: ComputeCost
    timelines: Sequence[Timeline]

    @functools.cached_property
    def ops(self) -> Mapping[Op, float]:
        """Seconds of each op alone, with the threads that it has in the program."""
        device = self.topology.used(self.topology.device_names).devices[0]
        return {op: self.cost.time(op, device) for op in self.graph.ops}

    @functools.cached_property
    def segments(self) -> Mapping[str, float]:
        """Seconds of the ops of each segment."""
        by_name = {op.name: seconds for op, seconds in self.ops.items()}
        return {name: sum(by_name[op] for op in segment.ops) for name, segment in self.program.segments.items()}


class Ready:
    """A model that is placed on two CPU devices, ready to be run."""

    def __init__(self, captured: Captured, cost: ComputeCost, place: Place) -> None:
        self.topology = Topology.local(2)
        (self.graph,) = captured.parts
        (self.program,) = Evaluator(captured, self.topology, cost, {}).programs(place(captured))
        self.executable = LocalRuntime(self.topology).prepare(self.program, self.graph)
        self.inputs = [captured.examples[v.name].detach() for v in self.graph.inputs if v.kind != "constant"]

    def __call__(self) -> Timeline:
        """Run it."""
        self.executable(list(self.inputs))
        return self.executable.timeline


def run(model: nn.Module, x: torch.Tensor, store: CostStore, place: Place) -> Ran:
    """Time the ops of a model alone, place it on two CPU devices, and run it a number of times."""
    captured, cost = capture_dry(model, (x,), {}, training=False)[0], Measured(store)
    measure_ops(captured, Topology.local(2), store)
    ready = Ready(captured, cost, place)
    timelines = [ready() for _ in range(WARM + CALLS)][WARM:]
    return Ran(ready.topology, ready.program, ready.graph, cost, timelines)


def at_random(seed: int, run_length: int) -> Place:
    """Runs of so many ops, on average, change places."""

    def place(captured: Captured) -> dict[str, str]:
        chance = random.Random(seed)
        device, placed = 0, {}
        for op in captured.graph.ops:
            device ^= chance.random() < 1 / run_length
            placed[op.name] = f"cpu:{device}"
        return placed

    return place
