"""The CTC loss as one op, and its backward as another.

What torch's own op keeps for the backward is as wide as the longest target, so that its shape hangs on values. Here the
backward computes it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """What `torch.nn.functional.ctc_loss` gives.

    Args:
        log_probs: [steps, batch, classes], or [steps, classes].
        targets: [batch, longest target], or all of them one behind the other.
        input_lengths: [batch]: steps of each.
        target_lengths: [batch].
        blank: the class that stands for none.
        reduction: `mean`, `sum` or `none`.
        zero_infinity: losses that are infinite count as 0, as do their gradients.
    """
    steps, words = (torch.as_tensor(lengths).reshape(-1) for lengths in (input_lengths, target_lengths))
    single = log_probs.dim() == 2
    rows = log_probs.unsqueeze(1) if single else log_probs
    losses: Tensor = ctc_losses(rows, targets, steps, words, blank, zero_infinity)
    if zero_infinity:
        losses = torch.where(losses == float("inf"), 0.0, losses)
    if reduction == "mean":
        return (losses / words.to(losses).clamp_min(1)).mean()
    if reduction == "sum":
        return losses.sum()
    return losses.squeeze(0) if single else losses


@torch.library.custom_op("torchplace::ctc_losses", mutates_args=())
def ctc_losses(
    log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int, zero_infinity: bool
) -> Tensor:
    """The loss of each row: [batch]. Cost: as that of torch's own."""
    rows = log_probs, targets, input_lengths, target_lengths
    return torch.ops.aten._ctc_loss.Tensor(*rows, blank, zero_infinity)[0]  # type: ignore[no-any-return]


@ctc_losses.register_fake
def _(log_probs: Tensor, *_: Any) -> Tensor:
    return log_probs.new_empty(log_probs.shape[1])


@torch.library.custom_op("torchplace::ctc_losses_backward", mutates_args=())
def ctc_losses_backward(
    tangent: Tensor,
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    zero_infinity: bool,
) -> Tensor:
    """The gradient of `log_probs`. Cost: a forward and a backward of torch's own."""
    rows = log_probs, targets, input_lengths, target_lengths
    kept = torch.ops.aten._ctc_loss.Tensor(*rows, blank, zero_infinity)
    found = torch.ops.aten._ctc_loss_backward.Tensor(tangent.contiguous(), *rows, *kept, blank, zero_infinity)
    return found.contiguous()  # type: ignore[no-any-return]


@ctc_losses_backward.register_fake
def _(_tangent: Tensor, log_probs: Tensor, *_: Any) -> Tensor:
    return log_probs.new_empty(log_probs.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *rows, ctx.blank, ctx.zero_infinity = inputs
    ctx.save_for_backward(*rows)


def _backward(ctx: Any, tangent: Tensor) -> tuple[Any, ...]:
    return ctc_losses_backward(tangent, *ctx.saved_tensors, ctx.blank, ctx.zero_infinity), *(None,) * 5


ctc_losses.register_autograd(_backward, setup_context=_setup)
