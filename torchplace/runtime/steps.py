"""A step: one call of a model, and in training its backward. What is run to compare and to measure models."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from torchplace.compiler.dynamo import argument_names
from torchplace.compiler.joint import own_loss
from torchplace.runtime import pipelined
from torchplace.runtime.accelerator import accelerator_generators_kept
from torchplace.runtime.microbatches import Call, Splitter, join


class Step:
    """Calls a model; in training, runs the backward of the sum of the means of its floating-point outputs.

    That sum itself is not computed: a step is the model's programs and nothing of the caller's, whose ops run on all
    threads of the CPU and are not what a plan predicts.

    Args:
        model: an `nn.Module` or a function of tensors, compiled or not.
        args: positional arguments of the call.
        kwargs: keyword arguments.
        training: run the backward too.
    """

    def __init__(self, model: Any, args: Sequence[Any], kwargs: Mapping[str, Any], training: bool) -> None:
        self.model, self.args, self.kwargs, self.training = model, args, kwargs, training
        self._parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
        self._known: list[torch.Tensor] = []

    def forget(self) -> None:
        """Drop the gradients of the model's parameters."""
        for parameter in self._parameters:
            parameter.grad = None

    def __call__(self) -> list[torch.Tensor]:
        """Run one; returns the outputs. Gradients are added to those that are there."""
        with torch.set_grad_enabled(self.training):
            made = self.model(*self.args, **self.kwargs)
        outputs = [o for o in pytree.tree_leaves(made) if isinstance(o, torch.Tensor)]
        wanted = [o for o in outputs if o.requires_grad]
        if self.training and wanted:
            torch.autograd.backward(wanted, self._tangents(wanted))
        return [o.detach() for o in outputs]

    def _tangents(self, outputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The gradient of the sum of the means with respect to each output; made once."""
        alike = [(o.shape, o.dtype, o.device) for o in outputs]
        if alike != [(t.shape, t.dtype, t.device) for t in self._known]:
            self._known = [torch.full(o.shape, 1 / max(1, o.numel()), dtype=o.dtype, device=o.device) for o in outputs]
        return self._known

    @property
    def gradients(self) -> list[torch.Tensor]:
        """Of the parameters that have one."""
        return [p.grad for p in self._parameters if p.grad is not None]


class SplitStep(Step):
    """A call that is split into micro-batches; in training, the backward of each's `loss_of_output`.

    In eager they run one after the other; a compiled one (`pipelined.Step`) splits them itself.
    """

    def __init__(
        self, model: Any, args: Sequence[Any], kwargs: Mapping[str, Any], training: bool, microbatches: int
    ) -> None:
        """As `Step`, with the number of micro-batches."""
        super().__init__(model, args, kwargs, training)
        self.compiled = isinstance(model, pipelined.Step)
        module = model.model if self.compiled else model
        self._parameters = list(module.parameters()) if isinstance(module, nn.Module) else []
        self.splitter = Splitter(microbatches, names=argument_names(module))

    def __call__(self) -> list[torch.Tensor]:
        """Run all micro-batches; returns the loss of the whole batch, or without training its outputs."""
        with torch.set_grad_enabled(self.training):
            made = self.model(*self.args, **self.kwargs) if self.compiled else self._looped()
        return [o.detach() for o in pytree.tree_leaves(made) if isinstance(o, torch.Tensor)]

    def _looped(self) -> Any:
        split = self.splitter.split(Call(tuple(self.args), dict(self.kwargs)))
        weights = [rows / max(1, sum(split.rows)) for rows in split.rows]
        made = []
        for call, weight in zip(split.calls, weights, strict=True):
            output = self.model(*call.args, **call.kwargs)
            if self.training:
                output = loss_of_output(output)
                torch.autograd.backward(output * weight)
            made.append(output)
        leaves, trees = zip(*map(pytree.tree_flatten, made), strict=True)
        joined = [join(pieces, split.rows, weights, 0) for pieces in zip(*leaves, strict=True)]
        return pytree.tree_unflatten(joined, trees[0])


def step_of(model: Any, args: Sequence[Any], kwargs: Mapping[str, Any], training: bool, microbatches: int) -> Step:
    """What runs a call of a model, in one or in micro-batches."""
    if microbatches == 1:
        return Step(model, args, kwargs, training)
    return SplitStep(model, args, kwargs, training, microbatches)


def loss_of_output(output: Any) -> torch.Tensor:
    """The loss of a model that nobody has said one of: its own, or the sum of the means of what it returns."""
    own = own_loss(output)
    if isinstance(own, torch.Tensor):
        return own
    wanted = [o for o in pytree.tree_leaves(output) if isinstance(o, torch.Tensor) and o.requires_grad]
    return torch.stack([o.float().mean() for o in wanted]).sum()


@contextmanager
def generators_kept() -> Iterator[None]:
    """Behind this, random numbers go on as if nothing had been drawn: torch's on all devices, Python's and numpy's."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        with accelerator_generators_kept():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
