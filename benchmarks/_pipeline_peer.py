"""Peer: torch.distributed.pipelining on ranks that talk over gloo, its stages cut by hand."""

from __future__ import annotations

import itertools
import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import pipelining

from benchmarks._pipeline_problems import Case, Problem
from benchmarks._pipeline_team import Rank, Worker

_TIMEOUT = timedelta(seconds=120)


@dataclass(frozen=True)
class Schedule:
    """A schedule of the peer.

    Attributes:
        kind: its class.
        stages: of each rank.
        folded: the last stage is on the first rank: there and back again.
    """

    kind: Any
    stages: int = 1
    folded: bool = False

    def numbers(self, rank: Rank) -> list[int]:
        """The stages of a rank."""
        forth = [turn * rank.size + rank.number for turn in range(self.stages)]
        return [forth[0], 2 * rank.size - 1 - rank.number] if self.folded else forth

    def make(self, stages: list[Any], case: Case, problem: Problem) -> Any:
        """The schedule of a rank; gradients are scaled with the loss, as eager does it."""
        several = issubclass(self.kind, pipelining.schedules.PipelineScheduleMulti)
        assert problem.loss_fn is not None
        loss_fn = problem.loss_fn

        def loss(output: Any, target: Any) -> torch.Tensor:
            return loss_fn(output, target) / case.microbatches

        return self.kind(stages if several else stages[0], case.microbatches, loss_fn=loss, scale_grads=False)


SCHEDULES: Mapping[str, Schedule] = {
    "GPipe": Schedule(pipelining.ScheduleGPipe),
    "1F1B": Schedule(pipelining.Schedule1F1B),
    "ZB1P": Schedule(pipelining.ScheduleInterleavedZeroBubble),
    "interleaved ZB1P": Schedule(pipelining.ScheduleInterleavedZeroBubble, stages=2),
    "ZBV": Schedule(pipelining.ScheduleZBVZeroBubble, stages=2, folded=True),
}
"""By name."""


class _Sendable(torch.autograd.Function):
    """The same, its gradient contiguous: gloo sends nothing else."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        """A view of it."""
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        """Copied where it has to be."""
        return gradient.contiguous()


class Stage(nn.Module):
    """Layers one behind the other, each called with all that the one before returned."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, *values: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Of what the stage before returned; a single tensor is returned as such."""
        values = tuple(_Sendable.apply(v) if v.requires_grad else v for v in values)  # type: ignore[no-untyped-call]
        for layer in self.layers:
            values = _tuple(layer(*values))
        # What only goes through is a view of what came in, and the peer's weight gradients refuse views.
        values = tuple(v.clone() if v._is_view() else v.contiguous() for v in values)
        return values if len(values) > 1 else values[0]


class Peer(Worker):
    """One rank, with its stages; it has the other layers, too, but does nothing with them."""

    def __init__(self, case: Case, rank: Rank, schedule: str) -> None:
        self.problem = case.build()
        logging.getLogger("torch.distributed.pipelining").setLevel(logging.CRITICAL)  # errors are told by us
        dist.init_process_group("gloo", timeout=_TIMEOUT)
        how = SCHEDULES[schedule]
        count = how.stages * rank.size
        parts, numbers = agreed_parts(self.problem, case, count), how.numbers(rank)
        stages = [pipelining.PipelineStage(Stage(parts[i]), i, count, torch.device("cpu")) for i in numbers]
        self._schedule = how.make(stages, case, self.problem)
        self._args = self.problem.args if 0 in numbers else ()
        self._is_last = count - 1 in numbers
        self._facts = {"layers": [len(part) for part in parts]}

    def gradients(self) -> float:
        """Of the mean over all micro-batches; the loss is where the last stage is."""
        losses: list[torch.Tensor] = []
        ends = {"target": self.problem.target, "losses": losses} if self._is_last else {}
        self._schedule.step(*self._args, return_outputs=False, **ends)
        return math.fsum(loss.item() for loss in losses)

    def facts(self) -> dict[str, Any]:
        """Number of layers of each stage."""
        return self._facts


def agreed_parts(problem: Problem, case: Case, count: int) -> list[Sequence[nn.Module]]:
    """Layers of each stage, by how long they take on the first rank."""
    rows = [a.chunk(case.microbatches)[0] for a in problem.args]
    found = [cut(layer_seconds(problem.layers, rows), count)]
    dist.broadcast_object_list(found, src=0)
    problem.model.zero_grad(set_to_none=True)
    return [problem.layers[a:b] for a, b in itertools.pairwise(found[0])]


def cut(seconds: Sequence[float], count: int) -> list[int]:
    """Begin of each part, and the end, so that the part that takes longest takes as little as can be."""
    cuts = itertools.combinations(range(1, len(seconds)), count - 1)
    ends = ([0, *inner, len(seconds)] for inner in cuts)
    return min(ends, key=lambda e: max(sum(seconds[a:b]) for a, b in itertools.pairwise(e)))


def layer_seconds(layers: Sequence[nn.Module], args: Sequence[torch.Tensor], rounds: int = 4) -> list[float]:
    """Of each layer, forward and backward of a micro-batch; the first round warms up."""
    times: list[list[float]] = [[] for _ in layers]
    for _ in range(rounds):
        values = tuple(args)
        for taken, layer in zip(times, layers, strict=True):
            inputs = [v.detach().requires_grad_(v.is_floating_point()) for v in values]
            start = perf_counter()
            values = _tuple(layer(*inputs))
            torch.autograd.backward(values, [torch.ones_like(v) for v in values])
            taken.append(perf_counter() - start)
    return [statistics.median(taken[1:]) for taken in times]


def _tuple(values: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return values if isinstance(values, tuple) else (values,)
