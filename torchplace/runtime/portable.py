"""Ops that only the CPU has, made of ops that every device has: a model captured on the CPU runs on others too.

Attention is as in Dao et al., "FlashAttention" (2022), section 3 and appendix B, with all of the scores at once:
the forward keeps the logarithm of each row's sum of exponentials, and the backward makes the weights from it again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch


def portable(target: str, device: torch.device) -> Callable[..., Any] | None:
    """What to call on `device` instead of an op, by its name; None where the op itself will do."""
    return None if device.type == "cpu" else _REPLACEMENTS.get(target)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention and its log-sum-exp.

    Args:
        query: [batch, heads, queries, size].
        key: [batch, heads or fewer, keys, size].
        value: as `key`.
        dropout_p: only 0, as for the op that this stands for.
        is_causal: a query sees only the keys up to its own index.
        attn_mask: is added to the scores.
        scale: of the scores; None for 1 / sqrt(size).

    Returns:
        [batch, heads, queries, size], laid out as `query`, and [batch, heads, queries], laid out as
        [batch, queries, heads]: the layouts that the graph was captured with. Memory: all of the scores.
    """
    scores = _scores(query, key, is_causal, attn_mask, scale)
    sums = torch.logsumexp(scores, -1)
    weights = torch.exp(scores - sums.unsqueeze(-1))
    result = torch.matmul(weights, _shared(value, query).to(weights.dtype))
    layout = torch.ops.aten.empty_like.default(query)
    return torch.ops.aten.copy_.default(layout, result), _compact(sums.transpose(1, 2)).transpose(1, 2)


def attention_backward(
    grad_out: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    logsumexp: torch.Tensor,
    dropout_p: float,
    is_causal: bool,
    *,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of `attention`, each laid out as [batch, length, heads, size]."""
    scores = _scores(query, key, is_causal, attn_mask, scale)
    weights = torch.exp(scores - logsumexp.unsqueeze(-1))
    grad, shared_key, shared_value = grad_out.to(weights.dtype), _shared(key, query), _shared(value, query)
    grad_weights = torch.matmul(grad, shared_value.to(weights.dtype).transpose(-2, -1))
    row = (grad * out.to(weights.dtype)).sum(-1, keepdim=True)
    grad_scores = weights * (grad_weights - row) * _factor(query, scale)
    grad_query = torch.matmul(grad_scores, shared_key.to(weights.dtype))
    grad_key = torch.matmul(grad_scores.transpose(-2, -1), query.to(weights.dtype))
    grad_value = torch.matmul(weights.transpose(-2, -1), grad)
    return _laid_out(grad_query, query), _laid_out(grad_key, key), _laid_out(grad_value, value)


def _factor(query: torch.Tensor, scale: float | None) -> float:
    return 1 / math.sqrt(query.size(-1)) if scale is None else scale


def _scores(
    query: torch.Tensor, key: torch.Tensor, is_causal: bool, mask: torch.Tensor | None, scale: float | None
) -> torch.Tensor:
    """[batch, heads, queries, keys], in float32 at least; minus infinity where nothing is seen."""
    wide = torch.promote_types(query.dtype, torch.float32)
    scores = torch.matmul(query.to(wide), _shared(key, query).to(wide).transpose(-2, -1)) * _factor(query, scale)
    if is_causal:
        square = torch.ops.aten.new_ones.default(scores, scores.shape[-2:], dtype=torch.bool)
        scores = scores.masked_fill(torch.ops.aten.triu.default(square, 1), -math.inf)
    return scores if mask is None else scores + mask


def _shared(tensor: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Keys or values with as many heads as the query: several query heads may share one."""
    return tensor.repeat_interleave(query.size(1) // tensor.size(1), 1) if tensor.size(1) != query.size(1) else tensor


def _laid_out(gradient: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    if gradient.size(1) != of.size(1):  # the heads that shared one
        gradient = gradient.reshape(of.size(0), of.size(1), -1, *gradient.shape[2:]).sum(2)
    return _compact(gradient.to(of.dtype).transpose(1, 2)).transpose(1, 2)


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    """Its elements without gaps: `contiguous()`, like some other methods, asks for the device of a fake tensor too."""
    copied: torch.Tensor = torch.ops.aten.clone.default(tensor, memory_format=torch.contiguous_format)
    return copied


_REPLACEMENTS: dict[str, Callable[..., Any]] = {
    "aten._scaled_dot_product_flash_attention_for_cpu.default": attention,
    "aten._scaled_dot_product_flash_attention_for_cpu_backward.default": attention_backward,
}
