"""Steps of the coverage benchmark: micro-batches through a model as one pipelined graph, beside eager's loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks._coverage_entry import Entry, Inputs
from benchmarks._outputs import floating, trained

MICROBATCHES = 2
BATCHES = (4, 6)
"""Rows of a step, and of one with another batch."""


def loss_of(output: Any) -> torch.Tensor:
    """A loss that hangs on all that a model returns."""
    wanted = [o for o in floating(output) if o.requires_grad]
    return torch.stack([o.abs().square().mean() + torch.real(o).mean() for o in wanted]).sum()


def looped(model: nn.Module) -> Callable[..., torch.Tensor]:
    """The same in eager."""

    def step(*args: Any, **kwargs: Any) -> torch.Tensor:
        total = torch.zeros(())
        for i in range(MICROBATCHES):
            own, named = _piece((args, kwargs), i)
            loss = loss_of(model(*own, **named)) / MICROBATCHES
            torch.autograd.backward(loss)
            total += loss.detach()
        return total

    return step


def _piece(given: Inputs, number: int) -> Inputs:
    """The arguments of a micro-batch."""

    def cut(value: Any) -> Any:
        return value.chunk(MICROBATCHES)[number] if isinstance(value, torch.Tensor) and value.dim() else value

    args, kwargs = given
    return tuple(map(cut, args)), {name: cut(value) for name, value in kwargs.items()}


def run(model: nn.Module, step: Callable[..., torch.Tensor], entry: Entry, batch: int) -> list[torch.Tensor]:
    """Loss, gradients and buffers of one step."""
    args, kwargs = entry.inputs(batch)
    model.zero_grad()
    loss = step(*args, **kwargs)
    return [loss.detach().clone(), *trained(model)]
