"""Reads each op's phase off the graph: forward, backward or weight-grad."""

from __future__ import annotations

from collections.abc import Iterable

from torchplace.compiler.acts import CHECK, PRINT
from torchplace.compiler.graph import Graph, Op, Value

_MANY = "*"
"""Stands for "more than one gradient, or one of an activation"; no parameter's path has a star in it."""


def assign_phases(graph: Graph) -> None:
    """Set `phase` of every op, in place.

    An op is forward when an output of the user, a write to state, or a check or a print that no gradient comes to needs
    it. Of the rest, an op is weight-grad when all that it reaches is the gradient of one parameter: then nothing else
    waits for it, and a schedule may put it off (zero-bubble pipelines, Qi et al. 2023, section 2). The others, on whose
    results gradients of several parameters depend, are backward. (What nothing needs can wait, too.) Cost: linear in
    the edges.
    """
    forward = ancestors(graph, (v.value for v in graph.outputs if v.kind == "output"))
    forward |= _writers(graph) | _acts(graph)
    reached = _reached_gradients(graph)
    for op in graph.ops:
        label = reached.get(op)
        op.phase = "forward" if op in forward else "backward" if label == _MANY else "weight-grad"


def ancestors(graph: Graph, values: Iterable[object]) -> set[Op]:
    """The ops that any of the values needs, their makers included (what is no value needs nothing)."""
    needed = {v.producer for v in values if isinstance(v, Value) and v.producer is not None}
    for op in reversed(graph.ops):
        if op in needed:
            needed.update(v.producer for v in op.inputs if v.producer is not None)
    return needed


def _writers(graph: Graph) -> set[Op]:
    """Ops that write state, with all that they need: running statistics belong to the forward pass."""
    writers = [op for op in graph.ops if op.mutates]
    return {*writers, *ancestors(graph, (v for op in writers for v in op.inputs))}


def _acts(graph: Graph) -> set[Op]:
    """Checks and prints of the forward pass, with all that they need."""
    behind: set[Op] = set()  # a gradient
    for op in graph.ops:
        if any(v.kind == "tangent" or v.producer in behind for v in op.inputs):
            behind.add(op)
    acts = [op for op in graph.ops if op.target in (CHECK, PRINT) and op not in behind]
    return {*acts, *ancestors(graph, (v for op in acts for v in op.inputs))}


def _reached_gradients(graph: Graph) -> dict[Op, str]:
    """Op -> path of the only parameter whose gradient it reaches, or `_MANY`."""
    parameters = {v.path for v in graph.inputs if v.kind == "parameter"}
    reached: dict[Op, str] = {}
    for output in graph.outputs:
        if isinstance(output.value, Value) and output.value.producer is not None and output.kind == "gradient":
            _join(reached, output.value.producer, output.path if output.path in parameters else _MANY)
    for op in reversed(graph.ops):
        for value in op.inputs:
            if op in reached and value.producer is not None:
                _join(reached, value.producer, reached[op])
    return reached


def _join(reached: dict[Op, str], op: Op, label: str) -> None:
    reached[op] = label if reached.get(op, label) == label else _MANY
