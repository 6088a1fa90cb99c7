"""What a step takes beside its programs: guards, autograd and the runtime's own code, for each program and argument.

That code runs cold in a real model: between two calls of it the model's weights go through the caches. So deep models
of some megabytes are run here, which stand for no other, and a wall clock is read beside their timelines.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import nn

from torchplace.compiler.capture import Capturer
from torchplace.compiler.compiled import compile_module
from torchplace.placement.cost.regression import nonnegative, stack
from torchplace.placement.planning import Request
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.calibration_blocks import Block, Bottleneck, in_a_row
from torchplace.runtime.session import Session
from torchplace.runtime.steps import Step

_WARM, _STEPS = 3, 15


@dataclass(frozen=True)
class Stepped:
    """A model that was run step by step.

    Attributes:
        seconds: of a step, median.
        beside: seconds of it that its programs' timelines do not show, median.
        programs: how many it has.
        arguments: inputs and outputs of them all.
    """

    seconds: float
    beside: float
    programs: int
    arguments: int


def step_models() -> list[Stepped]:
    """Run the models on one CPU device; some seconds."""
    return [_run(make(), x, training) for make, x in _models() for training in (False, True)]


def beside(runs: Sequence[Stepped]) -> tuple[float, float]:
    """(Seconds for a program, seconds for an input or output of one): least squares, long steps counting for less.

    Weights are one over the root of a step's seconds: between errors in seconds, in which long steps are all that
    counts, and relative ones, in which short steps are, whose code is still in the caches when it is needed again.
    """
    weights = [1 / math.sqrt(run.seconds) for run in runs]
    rows = [[w * run.programs, w * run.arguments] for w, run in zip(weights, runs, strict=True)]
    wanted = [w * run.beside for w, run in zip(weights, runs, strict=True)]
    program, argument = nonnegative(stack(rows), stack([wanted])[0]).tolist()
    return program, argument


def _models() -> Iterator[tuple[Callable[[], nn.Module], torch.Tensor]]:
    """Deep models on little data: 20 to 70 MB of weights, as many as leave nothing else in the caches."""
    for depth, width, style in ((7, 512, "explicit"), (3, 640, "rotary"), (5, 512, "plain")):
        yield functools.partial(_blocks, depth, width, style), torch.randn(2, 20, width)
    yield lambda: in_a_row(Bottleneck(512) for _ in range(10)), torch.randn(2, 512, 7, 7)
    yield lambda: in_a_row(nn.Sequential(nn.Linear(960, 960), nn.ReLU()) for _ in range(9)), torch.randn(64, 960)


def _blocks(depth: int, width: int, style: str) -> nn.Module:
    return in_a_row(Block(width, style) for _ in range(depth))


def _run(model: nn.Module, x: torch.Tensor, training: bool) -> Stepped:
    model.train(training)
    session = Session(Request(Topology.local(1), solver="single"))
    compile_module(model, Capturer(session, "calibration"), dynamic=None, fullgraph=True)
    step, walls, others = Step(model, (x,), {}, training), [], []
    for i in range(_WARM + _STEPS):
        step.forget()
        begun = perf_counter()
        step()
        wall = perf_counter() - begun
        if i >= _WARM:
            walls.append(wall)
            others.append(wall - sum(e.timeline.duration for e in session.placed[0].parts))
    parts = session.placed[0].parts
    arguments = sum(len(e.inputs) + len(e.ends) for e in parts)
    return Stepped(statistics.median(walls), statistics.median(others), len(parts), arguments)
