"""What a step must equal: eager, run micro-batch by micro-batch; and steps that are captured once and placed anew."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from torchplace import Topology
from torchplace.compiler.capture import Captured
from torchplace.placement.pipelining import AUTO, Pipelining
from torchplace.placement.planning import Request
from torchplace.runtime.local import LocalRuntime
from torchplace.runtime.pipelined import Step
from torchplace.runtime.session import Placed, Session

LossOf = Callable[[nn.Module, slice], torch.Tensor]
"""The loss of a model for some rows of a batch."""


def cut(rows: int, microbatches: int) -> list[slice]:
    """The rows of every micro-batch: as many in each, but for the last."""
    size = -(-rows // microbatches)
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def eager_step(
    model: nn.Module, loss_of: LossOf, cuts: Sequence[slice], weights: Sequence[float] | None = None, scale: float = 1.0
) -> torch.Tensor:
    """Forward, loss and backward of one micro-batch after the other; returns the loss of the batch.

    Args:
        model: gets gradients.
        loss_of: the loss of a micro-batch.
        cuts: the rows of each.
        weights: of their losses in the whole; None for their part of the rows.
        scale: of gradients.
    """
    total = sum(c.stop - c.start for c in cuts)
    weights = [(c.stop - c.start) / total for c in cuts] if weights is None else weights
    parts = []
    for where, weight in zip(cuts, weights, strict=True):
        loss = loss_of(model, where)
        if torch.is_grad_enabled():
            loss.backward(torch.tensor(weight * scale, dtype=loss.dtype))
        parts.append(loss.detach() * weight)
    return torch.stack(parts).sum()


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Gradients and buffers, by name; a gradient that is not there is left out."""
    found = {f"grad of {n}": p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return found | {n: b.clone() for n, b in model.named_buffers()}


def differences(expected: dict[str, torch.Tensor], actual: dict[str, torch.Tensor], rtol: float = 1e-5) -> list[str]:
    """What is not the same, by norm; `rtol` 0 for to the bit."""
    faults = [f"{name} is on one side only" for name in sorted(expected.keys() ^ actual.keys())]
    return faults + [
        f"{name} differs by {float((actual[name].double() - expected[name].double()).norm()):.3g}"
        for name in sorted(expected.keys() & actual.keys())
        if not close(expected[name], actual[name], rtol)
    ]


def close(expected: torch.Tensor, actual: torch.Tensor, rtol: float = 1e-5) -> bool:
    """Whether two tensors are the same, by norm; `rtol` 0 for to the bit."""
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return False
    if not rtol:
        return torch.equal(expected, actual)
    wide = torch.complex128 if expected.is_complex() else torch.float64
    expected, actual = expected.to(wide), actual.to(wide)
    return bool((actual - expected).norm() <= rtol * expected.norm() + rtol / 100)


def twins(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Two copies of a model, with weights of their own."""
    return copy.deepcopy(model), copy.deepcopy(model)


@dataclass(frozen=True)
class Way:
    """How a step is placed and scheduled."""

    devices: int = 1
    solver: str = "single"
    seed: int = 0
    schedule: str = AUTO

    @property
    def request(self) -> Request:
        return Request(Topology.local(self.devices), solver=self.solver, objective="step", seed=self.seed)


class StepBoard:
    """A step that is captured once, for micro-batches of some shape, and placed anew for every way."""

    def __init__(self, model: nn.Module, **options: Any) -> None:
        """Prepare a step; options are those of `Step`."""
        self.way = Way()
        self.runtimes: dict[int, LocalRuntime] = {}
        self.step = Step(model, self._session(), **options)

    @functools.cached_property
    def captured(self) -> list[Captured]:
        """What the step's first calls have captured."""
        return list(dict.fromkeys(captured for captured, _ in self.step.whole.placed))

    def _session(self) -> Session:
        session = Session(self.way.request)
        session.runtime = self.runtimes.setdefault(self.way.devices, session.runtime)
        return session

    def use(self, way: Way, microbatches: int) -> Iterator[Placed]:
        """Run so from now on; gives what was prepared."""
        self.way = way
        self.step.splitter.microbatches = microbatches
        self.step.whole.placed = {
            (captured, microbatches): self._session().place(captured, Pipelining(microbatches, way.schedule))
            for captured in self.captured
        }
        return iter(self.step.whole.placed.values())


PLACED = {"topology": "local:3", "solver": "random", "seed": 1}
WIDTH, CLASSES = 8, 5


def batch(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, WIDTH, generator=generator), torch.randint(CLASSES, (rows,), generator=generator)


class Net(nn.Module):
    """Batch norm, a skip and tied weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, CLASSES)
        self.tied = nn.Linear(WIDTH, WIDTH)
        self.tied.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x + self.tied(self.norm(self.first(x)).relu()))


class Nested(nn.Module):
    """Takes a tensor, a pair, a dict, a flag and what all micro-batches share."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor, pair: Any, more: Any, shared: torch.Tensor, flag: bool = False) -> torch.Tensor:
        x = x + pair[0] * pair[1][:, None] + more["bias"].T
        return self.net(x * shared) * (2 if flag else 1)


def check(step: Any, expected: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> None:
    """A step gives what eager has given."""
    loss = step(*args, **kwargs)
    assert not loss.requires_grad
    assert differences(expected, {"loss": loss, **state(step.model)}) == []


def after_eager(
    model: nn.Module, x: Any, y: Any, microbatches: int, loss_fn: Callable[..., Any] = F.cross_entropy, **options: Any
) -> dict[str, torch.Tensor]:
    """Loss, gradients and buffers of eager."""
    loss = eager_step(model, lambda m, s: loss_fn(m(x[s]), y[s]), cut(len(x), microbatches), **options)
    return {"loss": loss, **state(model)}
