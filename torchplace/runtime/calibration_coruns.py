"""How much devices that compute at the same time slow each other: layers of models, in turn and side by side."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from torchplace.compiler.dry import capture_dry
from torchplace.compiler.instructions import Run
from torchplace.placement.cost.compute import Roofline
from torchplace.placement.timeline import Event, Timeline
from torchplace.runtime.calibration_blocks import Block, Bottleneck, in_a_row
from torchplace.runtime.calibration_programs import CALLS, WARM, Ready, by_branch

_WIDE = 384  # rows and columns of products that are all work
_DEVICES = "cpu:0", "cpu:1"


class Branches(nn.Module):
    """Two equal branches, to be computed at the same time, or the second when the first has ended."""

    def __init__(self, make: Callable[[], nn.Module], in_turn: bool = False) -> None:
        super().__init__()
        self.branches, self.in_turn = nn.ModuleList(make() for _ in range(2)), in_turn

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What a branch takes, to two of what it gives."""
        first = self.branches[0](x)
        return first, self.branches[1](x + 0 * first.mean() if self.in_turn else x)


def slowdown() -> float:
    """Factor by which two CPU devices slow each other: the mean over sorts of layers, each timed both ways in turn.

    Products alone tell too little: they find what they need in a core's own caches.
    """
    return max(1.0, statistics.mean(_slowdown(make, x) for make, x in _layers()))


def _layers() -> Iterator[tuple[Callable[[], nn.Module], torch.Tensor]]:
    """What makes a branch, and its input: products, attention, convolutions; deep, so that caches are cold."""
    product = functools.partial(nn.Linear, _WIDE, _WIDE)
    yield lambda: in_a_row(nn.Sequential(product(), nn.ReLU()) for _ in range(6)), torch.randn(_WIDE, _WIDE)
    yield lambda: in_a_row(Block(256, "plain") for _ in range(5)), torch.randn(2, 128, 256)
    yield lambda: in_a_row(Bottleneck(160) for _ in range(6)), torch.randn(2, 160, 14, 14)


def _slowdown(make: Callable[[], nn.Module], x: torch.Tensor) -> float:
    models = [Branches(make, in_turn) for in_turn in (False, True)]
    runs = [Ready(capture_dry(model, (x,), {}, training=False)[0], Roofline(), by_branch) for model in models]
    timelines = [[ready() for ready in runs] for _ in range(WARM + CALLS)]
    found = [together(*pair) for pair in timelines[WARM:]]
    return statistics.median([factor for factor in found if factor is not None] or [1.0])


def together(beside: Timeline, in_turn: Timeline) -> float | None:
    """How much longer two branches took side by side, while both ran; None where they hardly met."""
    long, alone = _longest(beside), _longest(in_turn)
    shared = min(event.end for event in long) - max(event.start for event in long)
    # What each did while the other did not run went as fast as alone.
    left = [a.end - a.start - (e.end - e.start - shared) for e, a in zip(long, alone, strict=True)]
    if shared < 0.5 * max(event.end - event.start for event in long) or min(left) <= 0:
        return None
    return 2 * shared / sum(left)


def _longest(timeline: Timeline) -> Sequence[Event]:
    """The longest run of each device."""
    runs = [event for event in timeline.events if isinstance(event.instruction, Run)]
    return [max((e for e in runs if e.device == d), key=lambda e: e.end - e.start) for d in _DEVICES]
