"""Functions of torch that look at values, and what Dynamo traces in their place."""

from __future__ import annotations

import functools

import torch
from torch.nn.modules import transformer


@functools.cache
def substitute() -> None:
    """Tell Dynamo of them, once; eager does as ever."""
    detect = getattr(transformer, "_detect_is_causal_mask", None)
    if detect is not None:
        torch.compiler.substitute_in_graph(detect, can_constant_fold_through=False)(_is_said_to_be_causal)


def _is_said_to_be_causal(mask: torch.Tensor | None, is_causal: bool | None = None, size: int | None = None) -> bool:
    """Whether the caller says that a mask is a causal one.

    `nn.Transformer` looks into the mask otherwise, to take a faster kernel, which would break the graph. The mask is
    applied in any case.
    """
    return is_causal is True
