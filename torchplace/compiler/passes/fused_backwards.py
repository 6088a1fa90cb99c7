"""Splits fused backwards of convolutions: the gradient of the input apart from those of weight and bias.

Others wait for the first; the rest can be put off (zero-bubble pipelines). Libraries compute the two by separate
kernels in any case. Layer and group norm stay whole: their weights are small, and so is what waiting for them costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torchplace.compiler.graph import Graph, Op, Value
from torchplace.compiler.types import ScalarType

_MASKS = {"aten.convolution_backward.default": 10}
"""Op -> place of its output mask, which says of each gradient (input, weight, bias) whether it is wanted."""


def split_fused_backwards(graph: Graph) -> None:
    """Split every backward that makes gradients of an activation and of weights, in place. Cost: linear."""
    taken, users = {op.name for op in graph.ops}, graph.users
    ops: list[Op] = []
    for op in graph.ops:
        at = _MASKS.get(op.target)
        mask: Any = op.args[at] if at is not None and op.phase != "forward" and len(op.args) > at else ()
        splits = len(mask) == len(op.outputs) and bool(mask) and mask[0] is True and any(mask[1:])
        ops += _halves(op, at or 0, taken, users) if splits else [op]
    graph.ops[:] = ops


def _halves(op: Op, at: int, taken: set[str], users: Mapping[str, Sequence[Op]]) -> list[Op]:
    """A backward as two: what is wanted of parameters can be put off, unless more of the backward goes on from there.

    A weight that is no parameter itself (weight norm, spectral norm) has a backward of its own.
    """
    mask = op.args[at]
    name = f"{op.name}_weight"
    while name in taken:
        name += "_"
    taken.add(name)
    last = all(user.phase == "weight-grad" for value in op.outputs[1:] for user in users[value.name])
    phase = "weight-grad" if last else op.phase
    second = replace(op, name=name, args=_with(op, at, [False, *mask[1:]]), phase=phase, flops=op.flops // 2)
    op.rewire(_with(op, at, [True, *(False for _ in mask[1:])]))
    op.flops -= op.flops // 2
    whole = op.outputs
    first, rest = whole[0], whole[1:]
    op.outputs = (first, *(_unwanted(v, op, f"{v.name}_none") for v in rest))
    second.outputs = (_unwanted(first, second, f"{name}#0"), *rest)
    for value in rest:
        value.producer = second
    return [op, second]


def _with(op: Op, at: int, mask: list[bool]) -> tuple[object, ...]:
    return tuple(mask if i == at else a for i, a in enumerate(op.args))


def _unwanted(like: Value, producer: Op, name: str) -> Value:
    """Stands for a gradient that is not made: nobody takes it, and it takes no memory."""
    return replace(like, name=name, type=ScalarType("object"), producer=producer)
