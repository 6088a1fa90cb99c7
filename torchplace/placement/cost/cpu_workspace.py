"""Estimates of what ops take for themselves while they run on a CPU: copies, and scratch.

Read off what torch 2.13's allocator gives out on a CPU, op by op (`runtime.op_workspaces` does the same and is exact).
Ops that are not here take nothing, or little.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torchplace.compiler.graph import Op
from torchplace.compiler.types import TensorType
from torchplace.placement.cost.cpu_convolution import convolution, convolution_backward
from torchplace.placement.cost.layouts import contiguous_copy, is_channels_last, item_bytes, tensor_type
from torchplace.placement.cost.shapes import base_target


def estimate(op: Op, threads: int) -> int:
    """Bytes that an op takes beyond its inputs and results, on a CPU with so many intra-op threads; 0 or more."""
    find = _FAMILIES.get(base_target(op.target))
    try:
        return 0 if find is None else max(0, int(find(op, threads)))
    except (AttributeError, IndexError):  # an argument that is not there, or is no tensor
        return 0


def _product(first: int) -> Callable[[Op, int], int]:
    """Copies of the matrices that a BLAS cannot read as they are: neither rows nor columns lie close together."""

    def copies(op: Op, threads: int) -> int:
        operands = [tensor_type(op.args[i]) for i in (first, first + 1)]
        return sum(k.numel * item_bytes(k) for k in operands if not _is_for_blas(k))

    return copies


def _is_for_blas(kind: TensorType) -> bool:
    if kind.stride is None or kind.numel == 0:
        return True
    (rows, columns), (down, right) = kind.sizes[-2:], kind.stride[-2:]
    return (right == 1 and down >= max(1, columns)) or (down == 1 and right >= max(1, rows))


def _rows_at_once(queries: int) -> int:
    """Queries that a thread of the attention kernel takes at once."""
    return min(queries, 256 if queries >= 768 else 64 if queries >= 192 else 32)


def _attention(op: Op, threads: int) -> int:
    """Each thread's scores, their maxima and sums, and its part of the result, all float32."""
    query, key = tensor_type(op.args[0]), tensor_type(op.args[1])
    rows, columns = _rows_at_once(query.sizes[-2]), min(512, key.sizes[-2])
    return 4 * threads * (rows * columns + 2 * rows + rows * query.sizes[-1])


def _attention_backward(op: Op, threads: int) -> int:
    """Each thread's scores and their gradients, a row of sums; a copy of a gradient whose heads are outermost."""
    dy, query, key = tensor_type(op.args[0]), tensor_type(op.args[1]), tensor_type(op.args[2])
    rows, columns = _rows_at_once(query.sizes[-2]), min(512, key.sizes[-2])
    _, heads, length, size = dy.sizes
    straight = dy.stride == (length * heads * size, size, heads * size, 1)
    return 4 * (2 * threads * rows * columns + rows) + (0 if straight else dy.nbytes)


def _layer_norm(op: Op, threads: int) -> int:
    return contiguous_copy(tensor_type(op.args[0]))


def _layer_norm_backward(op: Op, threads: int) -> int:
    """Each thread's sums for weight and bias, and copies of what is not contiguous."""
    dy, x, shape = tensor_type(op.args[0]), tensor_type(op.args[1]), op.args[2]
    sums = 2 * threads * math.prod(shape) * item_bytes(x) if op.args[-1][1] or op.args[-1][2] else 0
    return sums + contiguous_copy(dy) + contiguous_copy(x)


def _batch_norm_backward(op: Op, threads: int) -> int:
    """A copy, where input and gradient are laid out alike; each thread's sums, where channels come last."""
    dy, x, wanted = tensor_type(op.args[0]), tensor_type(op.args[1]), op.args[9][0]
    last = is_channels_last(x) or len(x.sizes) == 2
    sums = 2 * threads * x.sizes[1] * 4 if last else 0
    return max(sums, x.nbytes if wanted and is_channels_last(dy) == is_channels_last(x) else 0)


def _batch_norm(op: Op, threads: int) -> int:
    """Two numbers for each channel: the old running statistics, or what the new values are made with."""
    x = tensor_type(op.args[0])
    return 2 * x.sizes[1] * item_bytes(x)


def _dropout(op: Op, threads: int) -> int:
    """What is kept, as numbers, before it is turned into truth values; nothing where all is kept."""
    return tensor_type(op.args[0]).nbytes if op.args[1] and op.args[2] else 0


def _dropout_backward(op: Op, threads: int) -> int:
    """What was kept, as numbers again."""
    return tensor_type(op.args[0]).nbytes


def _upsample(op: Op, threads: int) -> int:
    """Copies of image and result with their channels last, unless there are few."""
    x, y = tensor_type(op.args[0]), tensor_type(op.outputs[0])
    return 0 if is_channels_last(x) or x.sizes[1] < 4 else x.nbytes + y.nbytes


def _embedding_backward(op: Op, threads: int) -> int:
    return contiguous_copy(tensor_type(op.args[0])) + contiguous_copy(tensor_type(op.args[1]))


def _safe_softmax(op: Op, threads: int) -> int:
    """Which elements are masked, and which rows are so altogether."""
    x = tensor_type(op.args[0])
    return x.numel + x.numel // max(1, x.sizes[-1] if x.sizes else 1)


_FAMILIES: Mapping[str, Callable[[Op, int], int]] = {
    "aten.convolution": convolution,
    "aten.convolution_backward": convolution_backward,
    "aten._scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten._scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
    "aten.native_layer_norm": _layer_norm,
    "aten.native_layer_norm_backward": _layer_norm_backward,
    "aten._native_batch_norm_legit_functional": _batch_norm,
    "aten._native_batch_norm_legit_no_training": _batch_norm,
    "aten.native_batch_norm_backward": _batch_norm_backward,
    "aten.embedding_dense_backward": _embedding_backward,
    "aten._safe_softmax": _safe_softmax,
    "aten.mm": _product(0),
    "aten.addmm": _product(1),
    "aten.native_dropout": _dropout,
    "aten.native_dropout_backward": _dropout_backward,
    "aten.upsample_bilinear2d": _upsample,
    "aten.upsample_nearest2d": _upsample,
}
