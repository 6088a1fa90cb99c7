"""Packed sequences: rows of several lengths behind each other, without their padding, as recurrent layers read them.

Dynamo leaves `torch.nn.utils.rnn` to eager, and torch's own ops have no shapes to trace with: how many rows there are
hangs on values. Here they are ops whose sizes are symbols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal
from unittest import mock

import torch
from torch import Tensor, nn
from torch._dynamo.variables import ConstantVariable
from torch._dynamo.variables.functions import UserMethodVariable
from torch.nn.modules.rnn import RNNBase
from torch.nn.utils.rnn import PackedSequence


def pack_padded_sequence(
    input: Tensor, lengths: Tensor | Sequence[int], batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """What `torch.nn.utils.rnn.pack_padded_sequence` gives; with an order, that tells how many sequences there are.

    Args:
        input: [steps, batch, ...], or [batch, steps, ...] with `batch_first`.
        lengths: [batch]: steps of each.
        batch_first: see `input`.
        enforce_sorted: they are in falling order.
    """
    if not isinstance(lengths, Tensor):  # one by one: numbers that hang on values stay symbols
        lengths = torch.stack([torch.full((), length, dtype=torch.int64, device="cpu") for length in lengths])
    lengths = lengths.to("cpu", torch.int64)
    if enforce_sorted:
        order = torch.arange(input.size(0 if batch_first else 1), device=input.device)
    else:
        lengths, order = torch.sort(lengths, descending=True)
        order = order.to(input.device)
        input = input.index_select(0 if batch_first else 1, order)
    data, sizes = packed_rows(input, lengths, batch_first)
    return PackedSequence(data, sizes, order)


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """What `torch.nn.utils.rnn.pad_packed_sequence` gives.

    Args:
        sequence: as `pack_padded_sequence` makes it.
        batch_first: of the result.
        padding_value: behind the end of a sequence.
        total_length: steps of the result, if not those of the longest.
    """
    data, sizes, _, places = sequence
    count = int(sizes[0]) if places is None else places.size(0)
    steps = sizes.size(0) if total_length is None else total_length
    padded, lengths = padded_rows(data, sizes, count, batch_first, padding_value, steps)
    if places is None:
        return padded, lengths
    return padded.index_select(0 if batch_first else 1, places), lengths.index_select(0, places.cpu())


def pad_sequence(
    sequences: Tensor | Sequence[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: Literal["left", "right"] = "right",
) -> Tensor:
    """What `torch.nn.utils.rnn.pad_sequence` gives; see there."""
    rows = list(sequences.unbind(0) if isinstance(sequences, Tensor) else sequences)
    padded: Tensor = torch._C._nn.pad_sequence(rows, batch_first, padding_value, padding_side)
    return padded


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """What `torch.nn.utils.rnn.pack_sequence` gives; see there."""
    lengths = [rows.size(0) for rows in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unchecked() -> AbstractContextManager[Any]:
    """Within, Dynamo does not follow what asks how many sequences a packed one has; ops check that when they run."""
    return mock.patch.object(UserMethodVariable, "call_function", _but_packed)


_CHECKS = RNNBase.check_forward_args, nn.LSTM.check_forward_args
_call = UserMethodVariable.call_function


def _but_packed(self: Any, tx: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if self.fn in _CHECKS and not args[2].is_python_constant():  # (input, hidden, batch sizes or None)
        return ConstantVariable.create(None)
    return _call(self, tx, [*args], {**kwargs})


@torch.library.custom_op("torchplace::packed_rows", mutates_args=())
def packed_rows(x: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
    """The rows of `x` that are no padding, step by step: [rows, ...]; and how many of them each step has: [steps]."""
    data, sizes = torch._VF._pack_padded_sequence(x, lengths.cpu(), batch_first)
    return data, sizes


@packed_rows.register_fake
def _(x: Tensor, lengths: Tensor, _batch_first: bool) -> tuple[Tensor, Tensor]:
    context = torch.library.get_ctx()
    rows, steps = (context.new_dynamic_size(min=1) for _ in range(2))
    return x.new_empty(rows, *x.shape[2:]), lengths.new_empty(steps)


@torch.library.custom_op("torchplace::padded_rows", mutates_args=())
def padded_rows(
    data: Tensor, sizes: Tensor, count: int, batch_first: bool, padding: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Packed rows with their padding: [batch, steps, ...] with `batch_first`, else [steps, batch, ...]; and lengths."""
    padded, lengths = torch._VF._pad_packed_sequence(data, sizes.cpu(), batch_first, padding, steps)
    return padded.contiguous(), lengths


@padded_rows.register_fake
def _(data: Tensor, sizes: Tensor, count: int, batch_first: bool, _padding: float, steps: int) -> tuple[Tensor, Tensor]:
    dims = (count, steps) if batch_first else (steps, count)
    return data.new_empty(*dims, *data.shape[1:]), sizes.new_empty(count)


@torch.library.custom_op("torchplace::packed_rows_backward", mutates_args=())
def packed_rows_backward(tangent: Tensor, sizes: Tensor, shape: Sequence[int], batch_first: bool) -> Tensor:
    """The gradient of what was packed: 0 where it was padding."""
    steps = shape[1 if batch_first else 0]
    return torch._VF._pad_packed_sequence(tangent, sizes.cpu(), batch_first, 0.0, steps)[0].contiguous()


@packed_rows_backward.register_fake
def _(tangent: Tensor, _sizes: Tensor, shape: Sequence[int], _batch_first: bool) -> Tensor:
    return tangent.new_empty(shape)


@torch.library.custom_op("torchplace::padded_rows_backward", mutates_args=())
def padded_rows_backward(tangent: Tensor, lengths: Tensor, data: Tensor, batch_first: bool) -> Tensor:
    """The gradient of packed rows."""
    return torch._VF._pack_padded_sequence(tangent.contiguous(), lengths.cpu(), batch_first)[0]


@padded_rows_backward.register_fake
def _(_tangent: Tensor, _lengths: Tensor, data: Tensor, _batch_first: bool) -> Tensor:
    return torch.empty_like(data)


def _setup_packed(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, _, ctx.batch_first = inputs
    ctx.shape = x.shape
    ctx.save_for_backward(output[1])


def _backward_packed(ctx: Any, tangent: Tensor, _: Any) -> tuple[Any, ...]:
    (sizes,) = ctx.saved_tensors
    return packed_rows_backward(tangent, sizes, ctx.shape, ctx.batch_first), None, None


def _setup_padded(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    data, _, _, ctx.batch_first, *_ = inputs
    ctx.save_for_backward(output[1], data)


def _backward_padded(ctx: Any, tangent: Tensor, _: Any) -> tuple[Any, ...]:
    return padded_rows_backward(tangent, *ctx.saved_tensors, ctx.batch_first), *(None,) * 5


packed_rows.register_autograd(_backward_packed, setup_context=_setup_packed)
padded_rows.register_autograd(_backward_padded, setup_context=_setup_padded)
