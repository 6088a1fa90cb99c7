"""A graph is run as far as it was traced, once, and changes nothing that is the caller's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import fx, nn
from torch._dynamo.source import LocalSource

from torchplace.compiler.formulas import Call
from torchplace.compiler.replay import Replay


def traced(**given: Any) -> tuple[fx.Graph, dict[str, fx.Node], Replay]:
    """A graph with placeholders for what a call is given, and a replay of that call."""
    graph = fx.Graph()
    nodes = {name: graph.placeholder(name) for name in given}
    for name, node in nodes.items():
        node.meta["grapharg"] = SimpleNamespace(source=LocalSource(name), pass_arg_as_tensor=False)
    return graph, nodes, Replay(graph, Call({"L": given, "G": {}}), {})


def test_it_goes_on_where_it_was() -> None:
    graph, nodes, replay = traced(x=torch.arange(3.0))
    drawn = graph.call_function(torch.rand_like, (nodes["x"],))
    first = replay.result(drawn)
    more = graph.call_method("add", (drawn, nodes["x"]))
    assert torch.equal(replay.result(more), first + torch.arange(3.0))


def test_nothing_of_the_callers_is_written() -> None:
    weight, x = nn.Parameter(torch.ones(3)), torch.arange(3.0)
    graph, nodes, replay = traced(weight=weight, x=x)
    graph.call_method("mul_", (nodes["x"], 2))
    graph.call_method("copy_", (nodes["weight"], nodes["x"]))
    total = graph.call_method("sum", (nodes["weight"],))
    assert float(replay.result(total)) == 6
    assert torch.equal(weight, torch.ones(3))
    assert torch.equal(x, torch.arange(3.0))


def test_a_table_whose_rows_are_made_shorter_is_a_copy() -> None:
    weight = nn.Parameter(torch.full((2, 2), 9.0))
    graph, nodes, replay = traced(weight=weight, x=torch.tensor([1]))
    found = graph.call_function(nn.functional.embedding, (nodes["x"], nodes["weight"], None, 1.0))
    assert float(replay.result(found).norm()) < 1.1
    assert torch.equal(weight, torch.full((2, 2), 9.0))


def test_the_callers_generator_stays_as_it_was() -> None:
    graph, nodes, replay = traced(x=torch.ones(3))
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    replay.result(graph.call_function(nn.functional.dropout, (nodes["x"], 0.5, True)))
    assert torch.equal(torch.rand(1), expected)


def test_checks_are_left_to_the_graph() -> None:
    graph, nodes, replay = traced(x=torch.zeros(()))
    graph.call_function(torch._assert_async, (nodes["x"], "no"))
    assert int(replay.result(graph.call_method("add", (nodes["x"], 1)))) == 1
