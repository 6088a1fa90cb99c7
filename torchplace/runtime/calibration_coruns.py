"""How much devices that compute at the same time slow each other: training steps, alone and side by side."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import nn

from torchplace.placement.planning import Request
from torchplace.placement.topology.figures import cores
from torchplace.placement.topology.local import pair_threads
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.calibration_blocks import Block, Bottleneck, in_a_row
from torchplace.runtime.pipelined import Step
from torchplace.runtime.reference import reference_seconds
from torchplace.runtime.session import Session

_WARM, _ROUNDS = 1, 7
_MICROBATCHES = 2

Timed = Callable[[], float]
"""Does a step, and says how many seconds it took."""


class Pace(NamedTuple):
    """How fast this machine is.

    Attributes:
        slowdown: factor by which two CPU devices slow each other.
        reference: seconds of the reference workload alone, at the pace for which the factor holds.
    """

    slowdown: float
    reference: float


class Round(NamedTuple):
    """Two steps, once alone and once side by side.

    Attributes:
        alone: how many times as long as the reference workload they took alone, in all.
        beside: seconds that they took side by side, in all.
        reference: seconds of the reference workload.
    """

    alone: float
    beside: float
    reference: float


def pace() -> Pace:
    """The mean factor over models that train side by side, at the usual pace of some half a minute.

    Forwards alone tell too little, and so does what fits into a core's own caches: what a step saves for its backward
    goes through memory that cores share. Ops are long, for what short ones do to each other is counted apart
    (`CoRun.contention`). Where two devices share a core, their demand says it all.

    There are machines whose core is a third quicker for some seconds, but only while the other idles. So what is done
    alone is measured by the reference workload of that moment; and all are timed in turn.
    """
    pairs = [[_step(make(), x) for _ in range(2)] for make, x in _models()]
    rounds = [[timed(pair) for pair in pairs] for _ in range(_WARM + _ROUNDS)][_WARM:]
    reference = statistics.median(r.reference for found in rounds for r in found)
    found = statistics.mean(_longer(column) / reference for column in zip(*rounds, strict=True))
    return Pace(max(1.0, found) if cores() > 1 else 1.0, reference)


def _longer(rounds: Sequence[Round]) -> float:
    """Seconds side by side for what takes as long as one reference workload alone."""
    return statistics.median(r.beside for r in rounds) / statistics.median(r.alone for r in rounds)


def _models() -> Iterator[tuple[Callable[[], nn.Module], torch.Tensor]]:
    """What makes a model, and the inputs of its step."""
    yield lambda: in_a_row(Block(256, "plain") for _ in range(3)), torch.randn(2 * _MICROBATCHES, 128, 256)
    yield lambda: in_a_row(Block(192, "rotary") for _ in range(3)), torch.randn(2 * _MICROBATCHES, 128, 192)
    yield lambda: in_a_row(Bottleneck(64) for _ in range(3)), torch.randn(2 * _MICROBATCHES, 64, 56, 56)


def _step(model: nn.Module, x: torch.Tensor) -> Timed:
    """Steps of a model on one CPU device of two; the first is done."""
    session = Session(Request(Topology.local(1, threads=pair_threads()), solver="single"))
    step = Step(model, session, loss_fn=nn.functional.mse_loss, microbatches=_MICROBATCHES)

    def do() -> float:
        with torch.enable_grad():  # whatever the call that has this machine calibrated is
            step(x, target=x)
        model.zero_grad(set_to_none=True)
        return step.timeline.duration

    do()
    return do


def timed(steps: Sequence[Timed]) -> Round:
    """A round: each step alone, behind one that does not count; then all side by side."""
    alone, references = [], []
    for step in steps:
        step()
        references.append(reference_seconds())
        alone.append(step() / references[-1])
    return Round(sum(alone), sum(beside(steps)), statistics.median(references))


def beside(steps: Sequence[Timed]) -> Sequence[float]:
    """Seconds of each step while the others run: of three in a row, the one in the middle."""
    begin = threading.Barrier(len(steps))

    def run(step: Timed) -> float:
        begin.wait()
        return [step() for _ in range(3)][1]

    with ThreadPoolExecutor(len(steps)) as pool:
        return list(pool.map(run, steps))
