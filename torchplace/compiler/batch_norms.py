"""Batch norms whose running statistics are plain averages (`momentum=None`): what a batch counts hangs on a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._dynamo.variables.tensor import SymNodeVariable

_MOMENTUM = 6
"""Which argument of `torch.nn.functional.batch_norm` it is."""


def is_averaging(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of `batch_norm` that Dynamo traces has a momentum that hangs on a value."""
    momentum = args[_MOMENTUM] if len(args) > _MOMENTUM else kwargs.get("momentum")
    return isinstance(momentum, SymNodeVariable)


def averaging_batch_norm(
    input: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """What `torch.nn.functional.batch_norm` gives, its momentum a symbol: torch's op takes numbers alone."""
    mean, var = running_mean.detach().clone(), running_var.detach().clone()
    result = F.batch_norm(input, mean, var, weight, bias, training, 1.0, eps)
    if training:
        share = torch.scalar_tensor(momentum, dtype=mean.dtype)
        with torch.no_grad():
            for running, own in ((running_mean, mean), (running_var, var)):
                running.copy_(share * own + (1 - share) * running)
    return result
