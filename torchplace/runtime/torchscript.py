"""TorchScript, as far as we use it; the one module that calls torch.jit, which is deprecated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch


def compiled(source: str) -> Any:
    """The function `segment` of some source text.

    Raises:
        RuntimeError: TorchScript does not take it.
    """
    return torch.jit.CompilationUnit(source).segment


def overloads(function: Any, name: str) -> list[str]:
    """The overloads of an op of `aten` that a function calls, in order."""
    schemas = [node.schema().split("(")[0] for node in function.graph.nodes() if node.kind() == f"aten::{name}"]
    return [schema.partition("::")[2].partition(".")[2] or "default" for schema in schemas]


def boxed(values: list[Any]) -> Any:
    """A list of TorchScript's, so that Python holds none of the values while a function takes them out of it."""
    return torch._C.ScriptList(values)


@contextmanager
def unoptimized() -> Iterator[None]:
    """Within, TorchScript runs what is written, and nothing else."""
    optimize = torch._C._get_graph_executor_optimize()
    torch._C._set_graph_executor_optimize(False)
    try:
        yield
    finally:
        torch._C._set_graph_executor_optimize(optimize)


def clocked(function: Any, names: Sequence[str]) -> Callable[[Any], tuple[list[Any], list[int]]]:
    """A function that does the same, and reads the clock before the first of some ops of `aten` and behind each.

    Args:
        function: returns one list.
        names: of all its ops, in order.

    Returns:
        A function of the same arguments; gives the list, and nanoseconds, one more than there are ops.
    """
    graph = function.graph.copy()
    stamps = [_stamp(graph).insertBefore(node) for node in _nodes(graph, names)]
    results = next(graph.outputs())
    stamps.append(_stamp(graph).insertBefore(results.node()))
    read = _appended(graph, "prim::ListConstruct", [stamp.output() for stamp in stamps], torch._C.ListType.ofInts())
    both = torch._C.TupleType([results.type(), read.type()])
    result = _appended(graph, "prim::TupleConstruct", [results, read], both)
    graph.eraseOutput(0)
    graph.registerOutput(result)
    return torch._C._create_function_from_graph("clocked", graph)


def _nodes(graph: torch.Graph, names: Sequence[str]) -> Iterator[torch.Node]:
    """The node of each op."""
    nodes = iter(list(graph.nodes()))
    for name in names:
        yield next(node for node in nodes if node.kind() == f"aten::{name}")


def _stamp(graph: torch.Graph) -> torch.Node:
    """A node that reads the clock."""
    node = graph.create("prim::TimePoint", [], 1)
    node.output().setType(torch._C.IntType.get())
    return node


def _appended(graph: torch.Graph, kind: str, inputs: list[torch.Value], type_: Any) -> torch.Value:
    node = graph.appendNode(graph.create(kind, inputs, 1))
    node.output().setType(type_)
    return node.output()
