"""A step's backward begins at the loss alone, whatever else of a graph's outputs requires gradients."""

from __future__ import annotations

from dataclasses import replace

from torchplace.compiler.graph import Graph, Op, Value
from torchplace.compiler.passes.phases import ancestors


def only_the_loss(graph: Graph) -> None:
    """Let gradients be those of the loss alone, the first output.

    A model may leave other tensors that require gradients in its attributes. Eager's backward does not begin there, and
    what only they reach has no gradient.
    """
    tangents = [v for v in graph.inputs if v.kind == "tangent"]
    if len(tangents) > 1:
        _drop_unreached(graph, tangents[0])
    users = graph.users
    for value in tangents[1:]:
        if not users[value.name]:
            graph.inputs.remove(value)
            continue
        alike = next(v for v in graph.output_values if v.type == value.type and v.kind != "tangent")
        zero = Op(f"{value.name}.zero", "aten.zeros_like.default", (alike,), phase="backward")
        zero.outputs = (Value(zero.name, value.type, zero),)
        graph.ops.insert(graph.ops.index(alike.producer) + 1 if alike.producer else 0, zero)
        _replace(graph, value, zero.outputs[0])
        graph.inputs.remove(value)


def _drop_unreached(graph: Graph, tangent: Value) -> None:
    """Leave out gradients for which a tangent is not needed, and what is done for them alone, in place."""
    reached = {tangent}
    for op in graph.ops:
        if not reached.isdisjoint(op.inputs):
            reached.update(op.outputs)
    graph.outputs = [
        replace(o, value=None) if o.kind == "gradient" and o.value not in reached else o for o in graph.outputs
    ]
    needed = ancestors(graph, (o.value for o in graph.outputs))
    graph.ops = [op for op in graph.ops if op.phase == "forward" or op in needed]


def _replace(graph: Graph, old: Value, new: Value) -> None:
    """Let a value stand wherever another does."""
    for op in graph.users[old.name]:
        op.replace_inputs({old: new})
    for value in (v for op in graph.ops for v in op.outputs if v.base == old.name):
        value.base = new.name
    graph.outputs = [replace(o, value=new) if o.value is old else o for o in graph.outputs]
