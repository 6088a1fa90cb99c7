"""`requires_grad = True` is left out for what a model has made, and nowhere else. Gradients: `tests/test_models.py`."""

from __future__ import annotations

import pytest
import torch

from torchplace.compiler.compiled import compile_function

pytestmark = pytest.mark.usefixtures("forgotten")


def marking(x: torch.Tensor) -> torch.Tensor:
    x = x * 2
    x.requires_grad = True
    return x * 3


def test_a_tensor_that_is_made_in_the_graph_does_not_break_it() -> None:
    graphs = []
    function = compile_function(marking, lambda module, inputs: graphs.append(module) or module.forward)
    assert torch.equal(function(torch.ones(2)), torch.full((2,), 6.0))
    assert len(graphs) == 1


def test_a_tensor_of_the_callers_is_marked_as_ever() -> None:
    def mark(x: torch.Tensor) -> torch.Tensor:
        x.requires_grad = True
        return x * 3

    x = torch.ones(2)
    compile_function(mark, lambda module, inputs: module.forward)(x)
    assert x.requires_grad


def test_other_attributes_are_set() -> None:
    def name(x: torch.Tensor) -> torch.Tensor:
        x = x * 2
        x.label = "twice"
        return x

    assert compile_function(name, lambda module, inputs: module.forward)(torch.ones(2)).label == "twice"
