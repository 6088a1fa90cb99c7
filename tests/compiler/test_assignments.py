"""`requires_grad = True` is left out for what a model has made, and nowhere else. Gradients: `tests/test_models.py`."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import torchplace as tp
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


class Moving(nn.Module):
    """Sets its buffers anew in every call."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 4)
        self.table = nn.Buffer(torch.rand(4), persistent=False)
        self.count = nn.Buffer(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.table = self.table.to(x.dtype)
        self.count = self.count + 1
        return self.layer(x + self.table) * self.count


def test_buffers_that_a_model_sets_in_its_forward_do_not_break_the_graph() -> None:
    model = Moving()
    placed = tp.compile(copy.deepcopy(model), topology="local:2", solver="random", fullgraph=True)
    for _ in range(3):
        x = torch.randn(2, 4)
        torch.testing.assert_close(placed(x), model(x))
    assert len(tp.plans(placed)) <= 2  # a buffer that the caller has made, and one that the call before has
    assert float(placed.count) == 3
    assert placed.state_dict().keys() == model.state_dict().keys()
