"""Which ops of a traced graph write into what they are given."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx

from torchplace.compiler.writes import may_write, writes_in_place


@pytest.mark.parametrize("target", [operator.iadd, operator.ior, operator.setitem, torch.relu_])
def test_functions_in_place_write(target: Callable[..., Any]) -> None:
    node = fx.Graph().call_function(target)
    assert writes_in_place(node)
    assert may_write(node)


@pytest.mark.parametrize(
    "target", [operator.add, operator.and_, operator.invert, operator.index, operator.is_, torch.relu]
)
def test_others_do_not(target: Callable[..., Any]) -> None:
    node = fx.Graph().call_function(target)
    assert not writes_in_place(node)
    assert not may_write(node)


@pytest.mark.parametrize(("name", "writes"), [("add_", True), ("add", False), ("__getitem__", False)])
def test_methods_are_known_by_their_names(name: str, writes: bool) -> None:
    graph = fx.Graph()
    node = graph.call_method(name, (graph.placeholder("x_"),))
    assert writes_in_place(node) is may_write(node) is writes


def test_ops_are_known_by_their_schemas_and_those_with_out_write_there() -> None:
    graph = fx.Graph()
    assert may_write(graph.call_function(torch.ops.aten.add_.Tensor))
    assert not may_write(graph.call_function(torch.ops.aten.add.Tensor))
    assert may_write(graph.call_function(torch.add, (), {"out": graph.placeholder("x")}))
    assert may_write(graph.call_function(torch.ops.higher_order.cond)), "its ways may"
    assert not may_write(graph.placeholder("x_"))
