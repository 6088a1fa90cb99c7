"""How much devices that compute at the same time slow each other: training steps, alone and side by side."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from torchplace.placement.planning import Request
from torchplace.placement.topology.figures import cores
from torchplace.placement.topology.local import pair_threads
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.calibration_blocks import Block, Bottleneck, in_a_row
from torchplace.runtime.pipelined import Step
from torchplace.runtime.session import Session

_WARM, _ROUNDS = 1, 7
_MICROBATCHES = 2

Timed = Callable[[], float]
"""Does a step, and says how many seconds it took."""


def slowdown() -> float:
    """Factor by which two CPU devices slow each other: the mean over models that train side by side.

    Forwards alone tell too little, and so does what fits into a core's own caches: what a step saves for its backward
    goes through memory that cores share. Ops are long, for what short ones do to each other is counted apart
    (`CoRun.contention`). Where two devices share a core, their demand says it all.
    """
    if cores() < 2:
        return 1.0
    pairs = [[_step(make(), x) for _ in range(2)] for make, x in _models()]
    rounds = [[longer(pair) for pair in pairs] for _ in range(_WARM + _ROUNDS)]  # in turn: a machine has its moments
    factors: list[float] = [statistics.median(found) for found in zip(*rounds[_WARM:], strict=True)]
    return max(1.0, statistics.mean(factors))


def _models() -> Iterator[tuple[Callable[[], nn.Module], torch.Tensor]]:
    """What makes a model, and the inputs of its step."""
    yield lambda: in_a_row(Block(256, "plain") for _ in range(3)), torch.randn(2 * _MICROBATCHES, 128, 256)
    yield lambda: in_a_row(Block(192, "rotary") for _ in range(3)), torch.randn(2 * _MICROBATCHES, 128, 192)
    yield lambda: in_a_row(Bottleneck(64) for _ in range(3)), torch.randn(2 * _MICROBATCHES, 64, 56, 56)


def _step(model: nn.Module, x: torch.Tensor) -> Timed:
    """Steps of a model on one CPU device of two; the first is done."""
    session = Session(Request(Topology.local(1, threads=pair_threads()), solver="single"))
    step = Step(model, session, loss_fn=nn.functional.mse_loss, microbatches=_MICROBATCHES)

    def timed() -> float:
        with torch.enable_grad():  # whatever the call that has this machine calibrated is
            step(x, target=x)
        model.zero_grad(set_to_none=True)
        return step.timeline.duration

    timed()
    return timed


def longer(steps: Sequence[Timed]) -> float:
    """How much longer steps take side by side than alone."""
    alone = [_warm(step) for step in steps]
    return sum(beside(steps)) / sum(alone)


def _warm(step: Timed) -> float:
    """Seconds of a step behind one that does not count."""
    step()
    return step()


def beside(steps: Sequence[Timed]) -> Sequence[float]:
    """Seconds of each step while the others run: of three in a row, the one in the middle."""
    begin = threading.Barrier(len(steps))

    def run(step: Timed) -> float:
        begin.wait()
        return [step() for _ in range(3)][1]

    with ThreadPoolExecutor(len(steps)) as pool:
        return list(pool.map(run, steps))
