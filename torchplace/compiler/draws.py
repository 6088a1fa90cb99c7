"""Which ops of a graph that is being traced draw random numbers."""

from __future__ import annotations

from typing import Any

import torch


def draws(node: Any) -> bool:
    """Whether a node of Dynamo's graph may draw random numbers."""
    name = getattr(node.target, "__name__", str(node.target)).lower()
    if "dropout" in name:
        given = [*node.args, *node.kwargs.values()]
        return not any(value is False or (isinstance(value, float) and value == 0.0) for value in given)
    if name == "scaled_dot_product_attention":
        return bool(node.kwargs.get("dropout_p", node.args[4] if len(node.args) > 4 else 0.0))
    return any(part in name for part in _DRAWS) or isinstance(node.target, torch._ops.HigherOrderOperator)


_DRAWS = ("rand", "bernoulli", "multinomial", "normal_", "uniform_", "exponential_", "poisson", "rrelu", "gumbel")
"""Parts of the names of functions that draw."""
