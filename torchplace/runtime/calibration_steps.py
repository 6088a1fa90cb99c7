"""What a step takes beside its programs: guards, autograd and the runtime's own code, for each program and argument.

That code runs cold in a real model: between two calls of it the model's weights go through the caches. So deep models
of some megabytes are run here, which stand for no other, and a wall clock is read beside their timelines.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import nn

from torchplace.compiler.capture import Capturer
from torchplace.compiler.dynamo import compile_module
from torchplace.placement.cost.regression import nonnegative, stack
from torchplace.placement.planning import Request
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.calibration_models import Attention, Gated
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


class Block(nn.Module):
    """Attention, and a gate or a perceptron."""

    def __init__(self, width: int, style: str) -> None:
        super().__init__()
        self.before, self.attention = nn.LayerNorm(width), Attention(width, width // 32, style)
        self.between = nn.LayerNorm(width)
        layers = nn.Linear(width, 3 * width), nn.GELU(), nn.Dropout(0.0), nn.Linear(3 * width, width)
        self.inside = Gated(width, 2 * width) if style == "rotary" else nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, length, width] -> the same."""
        x = x + self.attention(self.before(x))
        inside: torch.Tensor = self.inside(self.between(x))
        return x + inside


class Bottleneck(nn.Module):
    """Three convolutions, each with its norm, and what goes around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width // 2
        shapes = (width, inner, 1), (inner, inner, 3), (inner, width, 1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(b))
            for a, b, kernel in shapes
        )
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, width, height, width] -> the same."""
        y = x
        for layer in self.layers[:-1]:
            y = self.act(layer(y))
        result: torch.Tensor = self.act(x + self.layers[-1](y))
        return result


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
    for depth, width, style in ((3, 288, "plain"), (7, 256, "explicit"), (5, 320, "rotary")):
        yield lambda d=depth, w=width, s=style: _row(Block(w, s) for _ in range(d)), torch.randn(2, 40, width)  # type: ignore[misc]
    for depth, width in ((6, 192), (13, 160)):
        yield lambda d=depth, w=width: _row(Bottleneck(w) for _ in range(d)), torch.randn(2, width, 14, 14)  # type: ignore[misc]
    yield lambda: _row(nn.Sequential(nn.Linear(640, 640), nn.ReLU()) for _ in range(9)), torch.randn(160, 640)


def _row(layers: Iterator[nn.Module]) -> nn.Module:
    return nn.Sequential(*layers)


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
