"""Floating-point operations of a captured node, at the hints of its symbols."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import flop_registry

_GROUPED = {
    "aten._grouped_mm": 1,
    "transformers.grouped_mm_fallback": 1,
    "transformers.grouped_mm_fallback_backward": 2,
}
"""Products of groups of rows with a matrix each, as mixtures of experts do, and how many such: torch has no formula."""


def count_flops(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """FLOPs of one call: products and convolutions by torch's own formulas, others one for each element made.

    Args:
        target: the operator.
        args: its arguments; tensors are fake ones.
        kwargs: its keyword arguments.
        result: what it returns, fake.

    Returns:
        Operations (a multiply-add counts two); 0 for views.
    """
    formula = flop_registry.get(getattr(target, "overloadpacket", None))
    if formula is not None:
        return int(_at_hints(formula(*args, **kwargs, out_val=result)))
    times = _GROUPED.get(str(getattr(target, "overloadpacket", "")))
    if times is not None:
        return times * int(_at_hints(_grouped(*args[:2])))
    schema = getattr(target, "_schema", None)
    if schema is not None and any(r.alias_info and not r.alias_info.is_write for r in schema.returns):
        return 0
    made = [t for t in pytree.tree_leaves(result) if isinstance(t, torch.Tensor)]
    taken = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    return max((int(_at_hints(t.numel())) for t in (*made, *taken)), default=0)


def _grouped(left: torch.Tensor, right: torch.Tensor) -> Any:
    """Of [rows, k] and [groups, k, n], and the like: every row meets one group's matrix."""
    groups = left.shape[0] if left.dim() == right.dim() == 3 else 1
    return 2 * groups * left.shape[-2] * left.shape[-1] * right.shape[-1]


def _at_hints(number: Any) -> Any:
    """A plain number: a symbolic one is read at its hint."""
    node = getattr(number, "node", None)
    return number if node is None else node.hint
