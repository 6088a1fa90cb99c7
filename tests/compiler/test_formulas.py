"""Formulas compute what a node of a traced graph gives, from what the call was given, or there is none."""

from __future__ import annotations

import operator
from types import SimpleNamespace
from typing import Any

import pytest
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


def test_there_is_none_of_activations_and_of_chance() -> None:
    traced = Traced()
    graph, ids = traced.graph, traced.ids
    assert formula_of(graph.call_method("sum", (traced.x,))) is None
    assert formula_of(graph.call_function(torch.rand_like, (ids,), {"dtype": torch.float32})) is None
    graph.call_function(operator.setitem, (ids, 0, graph.call_method("argmax", (traced.x,))))
    assert formula_of(graph.call_method("sum", (ids,))) is None, "what was written hangs on an activation"


def test_what_was_written_before_counts_and_what_the_call_was_given_stays() -> None:
    traced = Traced()
    graph, ids = traced.graph, traced.ids
    before = graph.call_method("sum", (ids,))
    view = graph.call_method("view", (ids, -1))
    graph.call_function(operator.setitem, (view, 0, 5))
    after = graph.call_method("sum", (ids,))
    graph.call_method("zero_", (ids,))
    given = torch.tensor([1, 2])
    assert value(formula_of(before), ids=given) == 3
    assert value(formula_of(after), ids=given) == 7
    assert given.tolist() == [1, 2]


def test_counts_that_are_scattered_are_known() -> None:
    traced = Traced()
    counts = traced.graph.call_function(torch.zeros, (4,), {"dtype": torch.int64})
    ones = traced.graph.call_function(torch.ones_like, (traced.ids,))
    counted = traced.graph.call_method("scatter_add_", (counts, 0, traced.ids, ones))
    assert value(formula_of(traced.graph.call_method("max", (counted,))), ids=torch.tensor([1, 3, 3])) == 2


def test_inputs_that_share_memory_are_not_written_apart() -> None:
    traced = Traced()
    other = traced._given("other", torch.tensor([1]))
    traced.graph.call_method("zero_", (traced.ids,))
    total = traced.graph.call_function(operator.add, (traced.ids, other))
    shared = torch.tensor([1, 2])
    with pytest.raises(ValueError, match="another input"):
        value(formula_of(total), ids=shared, other=shared.view(2, 1))


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
