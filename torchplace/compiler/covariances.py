"""Covariances as ops that can be traced: torch's own look at their weights' values."""

from __future__ import annotations

import torch
from torch import Tensor


def cov(
    input: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None
) -> Tensor:
    """What `torch.cov` gives: [variables, variables].

    Args:
        input: [variables, observations], or observations of one variable.
        correction: what is taken off the number of observations.
        fweights: [observations]: how often each counts.
        aweights: [observations]: how much each counts.
    """
    rows = input if input.dim() > 1 else input.unsqueeze(0)
    weights = fweights if aweights is None else aweights if fweights is None else fweights * aweights
    if weights is None or aweights is None:
        count = rows.size(1) if weights is None else weights.sum()
        freedom = count - correction
    else:
        count = weights.sum()
        freedom = count - correction * (weights * aweights).sum() / count
    weighted = rows if weights is None else rows * weights
    apart = rows - weighted.sum(1, keepdim=True) / count
    weighted = apart if weights is None else apart * weights
    freedom = freedom.clamp_min(0) if isinstance(freedom, Tensor) else max(freedom, 0)
    found: Tensor = (apart @ weighted.mH) / freedom
    return found.squeeze()


def corrcoef(input: Tensor) -> Tensor:
    """What `torch.corrcoef` gives: [variables, variables].

    Args:
        input: [variables, observations], or observations of one variable.
    """
    found = cov(input)
    if not found.dim():
        return found / found
    diagonal = found.diagonal()
    spread = (diagonal.real if diagonal.is_complex() else diagonal).sqrt()
    found = found / spread.unsqueeze(1) / spread.unsqueeze(0)
    if not found.is_complex():
        return found.clamp(-1, 1)
    return torch.complex(found.real.clamp(-1, 1), found.imag.clamp(-1, 1))
