"""Tokens: what AOTAutograd threads through ops with effects, such as checks of linear algebra, to keep their order."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from torchplace.compiler.graph import Callee, Graph, Op
from torchplace.errors import CaptureError

_THREADED = "higher_order.with_effects"


def drop_tokens(graph: Graph) -> None:
    """Call ops with effects by themselves, without tokens, in place.

    Tokens come in with a call and go out with it. A step has neither; and to it, the tangent of a token would be that
    of the loss. Ops that make nothing run all the same, where they are placed.

    Raises:
        CaptureError: such an op makes something.
    """
    threaded = [op for op in graph.ops if op.target == _THREADED]
    if not threaded:
        return
    used = {value for op in graph.ops for value in op.inputs} | {output.value for output in graph.outputs}
    tokens = {token for op in threaded for token in (op.args[0], op.outputs[0])}
    graph.ops = [_by_itself(op, used) if op.target == _THREADED else op for op in graph.ops]
    graph.inputs = [value for value in graph.inputs if value not in tokens]
    graph.outputs = [output for output in graph.outputs if output.value not in tokens]


def _by_itself(op: Op, used: Collection[Any]) -> Op:
    _, callee, *args = op.args
    if not isinstance(callee, Callee) or any(value in used for value in op.outputs[1:]):
        name = getattr(callee, "target", callee)
        raise CaptureError(f"{name} has effects and makes something ({op.source}); a step cannot have such an op")
    return replace(op, target=callee.target, args=tuple(args), outputs=())
