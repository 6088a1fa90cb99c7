"""Formulas compute what a node of a traced graph gives, from what the call was given, or there is none."""

from __future__ import annotations

import operator
from types import SimpleNamespace
from typing import Any

import torch
from torch import fx
from torch._dynamo.source import LocalSource

from torchplace.compiler.formulas import Call, Formula, formula_of


class Traced:
    """A graph as Dynamo would have traced it, of two inputs."""

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self.ids = self._given("ids", torch.tensor([1, 2, 3]))
        self.x = self._given("x", torch.rand(3))

    def _given(self, name: str, value: torch.Tensor) -> fx.Node:
        node = self.graph.placeholder(name)
        argument = SimpleNamespace(source=LocalSource(name), example=value, pass_arg_as_tensor=False)
        node.meta.update(grapharg=argument, example_value=value)
        return node


def value(formula: Formula | None, **variables: torch.Tensor) -> Any:
    assert formula is not None
    return Call({"L": variables, "G": {}}).value(formula)


def test_a_formula_computes_what_follows_from_integers() -> None:
    traced = Traced()
    large = traced.graph.call_function(operator.gt, (traced.ids, 2))
    formula = formula_of(traced.graph.call_method("sum", (large,)))
    assert value(formula, ids=torch.tensor([3, 4])) == 2
    assert value(formula, ids=torch.tensor([1, 1])) == 0


def test_there_is_none_of_activations_of_chance_and_of_what_was_written() -> None:
    traced = Traced()
    graph, ids = traced.graph, traced.ids
    assert formula_of(graph.call_method("sum", (traced.x,))) is None
    assert formula_of(graph.call_function(torch.rand_like, (ids,), {"dtype": torch.float32})) is None
    before = graph.call_method("sum", (ids,))
    graph.call_function(operator.setitem, (ids, 0, 5))
    after = graph.call_method("sum", (ids,))
    assert formula_of(before) is not None
    assert formula_of(after) is None


def test_logical_operators_of_python_write_nothing() -> None:
    traced = Traced()
    large = traced.graph.call_function(operator.gt, (traced.ids, 2))
    both = traced.graph.call_function(operator.and_, (large, traced.graph.call_function(operator.invert, (large,))))
    assert not value(formula_of(traced.graph.call_method("any", (both,))), ids=torch.tensor([3, 4]))


def test_it_is_computed_on_the_host_wherever_the_graph_is() -> None:
    traced = Traced()
    there = traced.graph.call_method("to", (traced.ids, "meta"))
    made = traced.graph.call_function(torch.arange, (3,), {"device": torch.device("meta")})
    total = traced.graph.call_function(operator.add, (there, made))
    assert torch.equal(value(formula_of(total), ids=torch.tensor([1, 1, 1])), torch.tensor([1, 2, 3]))


def test_a_call_computes_each_formula_once() -> None:
    traced = Traced()
    formula = formula_of(traced.graph.call_method("sum", (traced.ids,)))
    assert formula is not None
    call = Call({"L": {"ids": torch.tensor([1])}, "G": {}})
    assert call.value(formula) is call.value(formula)
