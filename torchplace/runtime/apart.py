"""Apart: the micro-batches of a step that is no single graph, one after the other, through what can be captured."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from torchplace.compiler.capture import Capturer
from torchplace.compiler.compiled import compile_function
from torchplace.compiler.dynamo import call_of
from torchplace.compiler.joint import step_function
from torchplace.runtime.microbatches import Call
from torchplace.runtime.row import Row
from torchplace.runtime.subject import Subject, weakly


class Apart:
    """Runs micro-batches as eager does: a call of the model, its loss, a backward; the model's calls are compiled.

    A call runs placed, graph by graph; what cannot be captured runs between them, where its inputs are. Nothing of a
    micro-batch overlaps with another.
    """

    def __init__(self, subject: Subject) -> None:
        """Prepare; nothing is captured yet."""
        self._subject = subject

    @functools.cached_property
    def _model(self) -> Callable[..., Any]:
        """The model, its calls compiled."""
        subject, model = self._subject, self._subject.model
        place, names = weakly(subject.session.__call__), weakly(subject.names)
        return compile_function(
            call_of(model) if isinstance(model, nn.Module) else model,
            Capturer(place, subject.name, names, arguments=subject.arguments),
            dynamic=subject.dynamic,
            **subject.session.lookups,
        )

    def run(self, row: Row) -> None:
        """Run the micro-batches of a row; their gradients are added to `.grad`."""
        function = step_function(self._model, self._subject.loss_fn, returned=row.returned)
        ended = [_one(function, row, call, weight) for call, weight in zip(row.calls, row.weights, strict=True)]
        row.output = ended[-1][1]
        leaves = [pytree.tree_leaves(results) for results in ended]
        row.handed, row.results = leaves[-1], list(zip(*leaves, strict=True))


def _one(function: Callable[..., Any], row: Row, call: Call, weight: float) -> tuple[Any, Any]:
    """Forward and backward of a micro-batch: its loss and what the model returned."""
    given: list[tuple[torch.Tensor, torch.Tensor]] = []

    def own(tensor: torch.Tensor) -> torch.Tensor:
        """What stands for a tensor that the caller has made: the backward ends here, and goes on behind the step."""
        if not tensor.requires_grad or not torch.is_grad_enabled():
            return tensor
        given.append((tensor, tensor.detach().requires_grad_()))
        return given[-1][1]

    loss, output = function(*pytree.tree_map_only(torch.Tensor, own, (call.args, call.kwargs, call.target)))
    if loss is None or not loss.requires_grad:
        return loss, output
    torch.autograd.backward(loss, torch.full_like(loss, weight))
    row.gradients += [(tensor, mine.grad) for tensor, mine in given if mine.grad is not None]
    return loss.detach(), output
