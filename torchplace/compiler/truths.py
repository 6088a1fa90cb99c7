"""Values of a graph as tensors, and their truth: functions that Dynamo traces in place of what Python would do."""

from __future__ import annotations

from typing import Any

import torch


def as_tensor(number: Any) -> torch.Tensor:
    """A tensor of one number, which may be a symbol."""
    if isinstance(number, bool):
        # torch has no types for `sym_ite`
        return torch.scalar_tensor(torch.sym_ite(number, 1, 0), dtype=torch.bool)  # type: ignore[no-untyped-call]
    return torch.scalar_tensor(number, dtype=torch.int64 if isinstance(number, int) else torch.float64)


def truth_of(value: torch.Tensor) -> torch.Tensor:
    """What `bool` says of a tensor of one number, as a tensor."""
    return value.reshape(()) if value.dtype == torch.bool else value.reshape(()) != 0
