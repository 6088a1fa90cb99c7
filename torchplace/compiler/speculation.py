"""Speculation: what a branch, or a number, comes to that hangs on what a model computes is expected to stay as it is.

A mixture of experts asks `if mask.any():` of what its router has made, and loops over the experts that were hit. To
look that up in a guard (`foreseen`) would run the model; to break the graph there leaves all of it in pieces, and a
loop to eager. So the graph is captured for what the value comes to in the call at hand, of which as much as was traced
is run for that (`replay`), and it checks the value when it runs. Where another call finds something else, what that has
written is set back, and the call begins anew, with another graph (`compiled`).
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sympy
import torch
from sympy.core.relational import Relational
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import CallMethodKey, ConvertIntKey
from torch.utils import _pytree as pytree

from torchplace.compiler.early import end_trace
from torchplace.compiler.findings import line_now, read_apart
from torchplace.compiler.foresight import calls_of, may_expect, remembered
from torchplace.compiler.formulas import binding_of
from torchplace.compiler.replay import Replay
from torchplace.errors import Unexpected

SAYS = "torchplace expects"
"""What the message of a check begins with."""

_RELATIONS: dict[type[Relational], Callable[..., Any]] = {
    sympy.Eq: torch.eq,
    sympy.Ne: torch.ne,
    sympy.StrictLessThan: torch.lt,
    sympy.LessThan: torch.le,
    sympy.StrictGreaterThan: torch.gt,
    sympy.GreaterThan: torch.ge,
}


class _Local(threading.local):
    root: fx.Graph | None = None
    replays: Mapping[fx.Graph, Sequence[Replay]] = {}  # one for each call that the graph is for


_local = _Local()


def forget() -> None:
    """Keep no values of graphs that were traced."""
    _local.root, _local.replays = None, {}


def expected_truth(tx: Any, value: Any) -> bool | None:
    """Which way a branch on a tensor goes, with a check in the graph; None where nothing is expected.

    Args:
        tx: Dynamo's translator of the code.
        value: in Dynamo's terms.
    """
    node = value.as_proxy().node
    truth: bool | None = _expected(tx, node, bool)
    if truth is not None:
        _check(tx.output.graph, node, torch.ne, 0, wanted=truth)
    return truth


def expected_value(tx: Any, symbol: sympy.Symbol, wanted: sympy.Basic) -> sympy.Basic | None:
    """What a number that hangs on values comes to, or a comparison of it, with a check; None if nothing is expected.

    Args:
        tx: Dynamo's translator of the code.
        symbol: stands for the number.
        wanted: itself, or a comparison of it with another number.
    """
    graph = tx.output.graph
    node = binding_of(graph, symbol)
    if node is None or (wanted is symbol and not symbol.is_integer) or not may_expect():
        return None
    path = node.meta["unbacked_bindings"][symbol]
    source = _source_of(graph, node, path)
    if source is None:
        return None

    def read(result: Any) -> sympy.Basic:
        return wanted.xreplace({symbol: sympy.sympify(pytree.key_get(result, path))})

    found = _expected(tx, node, read)
    if found is None:
        return None
    if wanted is symbol:
        _check(graph, source, torch.eq, int(found), wanted=True)
    else:
        relation, other = _compared(wanted, symbol)
        _check(graph, source, relation, other, wanted=bool(found))
    return found


def _compared(wanted: sympy.Basic, symbol: sympy.Symbol) -> tuple[Callable[..., Any], Any]:
    """How a number is compared, and with what."""
    turned = wanted if wanted.args[0] == symbol else wanted.reversed
    other = turned.args[1]
    return _RELATIONS[type(turned)], int(other) if other.is_Integer else float(other)


def _expected(tx: Any, node: fx.Node, read: Callable[[Any], Any]) -> Any:
    """What is read of a node in the call that is traced, or in all that are alike; None where that fails."""
    tracer = tx.output.current_tracer
    if not may_expect() or node.graph is not tracer.graph or not _runs_once(tracer):
        return None
    found = read_apart(lambda replay: read(replay.result(node)), _replays(tx, tracer))
    if not found:
        return None
    if any(other != found[0] for other in found[1:]):
        end_trace(tx, Unexpected(f"{line_now()} comes to other values in one micro-batch than in another"))
    if not remembered(line_now(), None, found[0]):
        end_trace(tx, no_graph_for(line_now()))
    return found[0]


def no_graph_for(line: str) -> Unexpected:
    """Of a call for which there is no graph, though there are as many as there may be.

    Args:
        line: of the model, that comes to something else.
    """
    return Unexpected(f"{line} comes to what no graph expects, and there are enough")


def _runs_once(tracer: Any) -> bool:
    """Whether what is traced runs once in a call, but for a backward, as it does where activations are checkpointed."""
    return tracer.parent is None or (tracer.source_target is _CHECKPOINT and _runs_once(tracer.parent))


_CHECKPOINT = torch.ops.higher_order.tag_activation_checkpoint


def _replays(tx: Any, tracer: Any) -> Sequence[Replay]:
    """Replays of the graph that a tracer makes, of each call that it is for."""
    if tracer.parent is None and _local.root is not tracer.graph:
        _local.root, _local.replays = tracer.graph, {}
    known = _local.replays.get(tracer.graph)
    if known is None:
        modules, root = tx.output.nn_modules, tx.output.root_tx
        if tracer.parent is None:
            calls = calls_of(root.f_locals, root.f_globals, whole=True)
            known = [Replay(tracer.graph, call, modules) for call in calls]
        else:
            around = _replays(tx, tracer.parent)
            known = [Replay(tracer.graph, one.call, modules, _within(tracer, one)) for one in around]
        _local.replays = {**_local.replays, tracer.graph: known}
    return known


def _within(tracer: Any, around: Replay) -> Callable[[fx.Node], Any]:
    """What gives a graph what it takes from the one around it."""

    def given(node: fx.Node) -> Any:
        outer = next(outer for outer, inner in tracer.lifted_freevars.items() if inner.node is node)
        return around.result(outer.node)

    return given


def _source_of(graph: fx.Graph, node: fx.Node, path: pytree.KeyPath) -> fx.Node | None:
    """A tensor of the number that a node has made: what it was read from, or the size of its result."""
    if path in ((), (ConvertIntKey(),)):
        return node.args[0] if isinstance(node.args[0], fx.Node) else None
    *parts, method, dim = path
    if not (isinstance(method, CallMethodKey) and method.name == "size"):
        return None
    for part in parts:
        node = graph.call_function(operator.getitem, (node, _index(part)))
    return graph.call_function(torch.ops.torchplace.size_of.default, (node, _index(dim)))


def _index(key: Any) -> Any:
    return key.idx


def _check(graph: fx.Graph, source: fx.Node, relation: Callable[..., Any], other: Any, *, wanted: bool) -> None:
    """Let the graph fail unless a tensor of one number compares as it does now."""
    holds = graph.call_function(relation, (source, other))
    if not wanted:
        holds = graph.call_function(torch.logical_not, (holds,))
    graph.call_function(torch._assert_async, (holds, f"{SAYS} {line_now()} to go as in another call"))


@torch.library.custom_op("torchplace::size_of", mutates_args=())
def size_of(tensor: Tensor, dim: int) -> Tensor:
    """A size as a tensor: one that a trace knows would be a constant of the graph, which is not checked."""
    return torch.tensor(tensor.size(dim), device=tensor.device)


@size_of.register_fake
def _(tensor: Tensor, dim: int) -> Tensor:
    return torch.empty((), dtype=torch.int64, device=tensor.device)
