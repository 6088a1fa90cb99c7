"""Features of an op: the numbers that a regression may predict its cost from."""

from __future__ import annotations

from collections.abc import Sequence

from torchplace.compiler.graph import Op
from torchplace.compiler.types import TensorType, contiguous_strides, torch_dtype
from torchplace.placement.cost.compute import bytes_touched, is_free
from torchplace.placement.cost.shapes import Product, product_of

LARGE = 131_072
"""Bytes from which on glibc asks the system for memory and gives it back: `M_MMAP_THRESHOLD`, as malloc(3) starts."""


def features(op: Op) -> dict[str, float]:
    """Work, traffic, sizes and shapes of an op, at the hints; all 0 or more.

    Returns:
        flops; bytes read and written (`bytes_touched`); `made`, bytes of the outputs that are no views; `fresh`, of
        those with `LARGE` bytes or more; `elements`, of the largest tensor; `tensors`, how many it takes; `strided`,
        bytes of inputs that are not contiguous; `scattered`, of inputs whose innermost dim is not the output's;
        `free`, 1 where the roofline takes it for free; `inner`, elements along the last dim of the largest input;
        `kept`, elements of the first output; `item`, bytes of an element of the dtype that it computes in, and
        `whole`, 1 where those are integers or truth values; `variant`, which tells apart calls with other flags:
        causal attention, the gradients that are asked for; `before`, bytes that the largest op touched which made an
        input: the more, the colder are the caches. Of products, convolutions and attention (else 0): `batch`, `m`,
        `n`, `k` and `work` (FLOPs) as in `shapes.Product`, `window`, the elements of a kernel, and `apart`, how many
        operands are read across their rows.
    """
    taken = [v.type for v in op.inputs if isinstance(v.type, TensorType)]
    outputs = [v for v in op.outputs if isinstance(v.type, TensorType)]
    made = [v.type for v in outputs if isinstance(v.type, TensorType)]
    largest = max(taken, key=lambda t: t.numel, default=None)
    new = [v.nbytes for v in outputs if v.base is None]
    dtype = torch_dtype(op.dtype)
    return {
        "flops": float(op.flops),
        "bytes": float(bytes_touched(op)),
        "made": float(sum(new)),
        "fresh": float(sum(b for b in new if b >= LARGE)),
        "elements": float(max((t.numel for t in (*taken, *made)), default=0)),
        "tensors": float(len(taken)),
        "strided": float(sum(t.nbytes for t in taken if t.stride is not None)),
        "scattered": float(_scattered(taken, made)),
        "free": float(is_free(op)),
        "inner": float(largest.sizes[-1] if largest is not None and largest.sizes else 1),
        "kept": float(made[0].numel if made else 0),
        "item": float(dtype.itemsize),
        "whole": float(not (dtype.is_floating_point or dtype.is_complex)),
        "before": float(max((bytes_touched(v.producer) for v in op.inputs if v.producer is not None), default=0)),
        **_product_features(op),
    }


def _product_features(op: Op) -> dict[str, float]:
    found = product_of(op) or Product(0, 0, 0, 0)
    operands = [v.type for v in op.inputs[:3] if isinstance(v.type, TensorType)] if found.batch else []
    return {
        "batch": float(found.batch),
        "m": float(found.m),
        "n": float(found.n),
        "k": float(found.k),
        "work": found.flops if found.batch else 0.0,
        "window": float(found.window),
        "apart": float(sum(t.stride is not None and len(t.stride) > 1 and t.stride[-1] != 1 for t in operands)),
        "variant": float(_variant(op)),
    }


def _variant(op: Op) -> int:
    """A number that is the same for calls that do the same sort of work: made of their truth values and masks."""
    code = 1
    for argument in op.args:
        flags = argument if isinstance(argument, (list, tuple)) else (argument,)
        for flag in flags:
            if isinstance(flag, bool):
                code = 2 * code + flag
    return code


def _scattered(taken: Sequence[TensorType], made: Sequence[TensorType]) -> int:
    """Bytes of the inputs that are not read in the order in which the first output is written."""
    if not made:
        return 0
    order = _innermost(made[0])
    return sum(t.nbytes for t in taken if len(t.sizes) == len(made[0].sizes) and _innermost(t) not in (None, order))


def _innermost(type_: TensorType) -> int | None:
    """The dim with the smallest step; None where a tensor has no two elements."""
    strides = type_.stride or contiguous_strides(type_.sizes)
    steps = [(step, -i) for i, (step, size) in enumerate(zip(strides, type_.sizes, strict=True)) if size > 1 and step]
    return -min(steps)[1] if steps else None
