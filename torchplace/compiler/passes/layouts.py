"""Gives gradients the layout of their parameters, where the backward makes another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from torchplace.compiler.graph import Graph, Op, Value
from torchplace.compiler.types import TensorType


def dense_gradients(graph: Graph, parameters: Mapping[str, Value]) -> None:
    """Add a copy behind every gradient of a contiguous parameter that is not contiguous itself, in place.

    Autograd keeps a gradient in the layout of its parameter and copies one that has another, in the caller's thread and
    when all else is done. Here the copy is an op like others, which is placed, overlaps, and is predicted.

    Before: gradients are labelled with the paths of their parameters. After: the same outputs, equal values.

    Args:
        graph: with gradients among its outputs.
        parameters: path -> value of a parameter.

    Cost: linear in the outputs.
    """
    copies: dict[str, Value] = {}
    for i, output in enumerate(graph.outputs):
        parameter, value = parameters.get(output.path), output.value
        if output.kind != "gradient" or parameter is None or not isinstance(value, Value):
            continue
        if _differs(parameter, value):
            if value.name not in copies:
                graph.ops.append(_copy(value))
                copies[value.name] = graph.ops[-1].outputs[0]
            graph.outputs[i] = replace(output, value=copies[value.name])


def _differs(parameter: Value, value: Value) -> bool:
    mine, its = parameter.type, value.type
    if not isinstance(mine, TensorType) or not isinstance(its, TensorType) or value.producer is None:
        return False
    return mine.stride is None and its.stride is not None and mine.shape == its.shape


def _copy(value: Value) -> Op:
    assert isinstance(value.type, TensorType)
    name = f"{value.name.replace('#', '_')}_dense"
    op = Op(name, "aten.clone.default", (value,), {"memory_format": torch.contiguous_format})
    if value.producer is not None:
        op.module, op.source = value.producer.module, value.producer.source
    op.outputs = (Value(name, replace(value.type, stride=None), op),)
    return op
