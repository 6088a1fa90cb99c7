"""What is run to compare and to measure models: the same for eager and compiled ones."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import torchplace as tp
from torchplace.runtime.steps import Step, loss_of_output, step_of

PLACED: dict[str, Any] = {"topology": "local:2", "solver": "random"}


class Two(nn.Module):
    """Returns two tensors, a number and nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        h = self.first(x)
        return {"hidden": (h, None), "out": self.last(h.tanh()), "count": 2}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("microbatches", [1, 2, 3])
def test_micro_batches_of_eager_and_of_a_step_are_alike(training: bool, microbatches: int) -> None:
    torch.manual_seed(0)
    model, x = Two(), torch.randn(7, 4)
    options = {"microbatches": microbatches, "loss_fn": loss_of_output if training and microbatches > 1 else None}
    compiled = tp.compile(copy.deepcopy(model), **PLACED, **options)
    eager, placed = (step_of(m, (x,), {}, training, microbatches) for m in (model, compiled))
    expected, found = eager(), placed()
    assert [t.shape for t in expected] == ([()] if training and microbatches > 1 else [(7, 4), (7, 3)])
    torch.testing.assert_close(found, expected)
    assert len(eager.gradients) == (4 if training else 0)
    torch.testing.assert_close(placed.gradients, eager.gradients)
    placed.forget()
    assert not placed.gradients


def test_the_gradients_of_the_whole_are_those_of_the_micro_batches() -> None:
    torch.manual_seed(0)
    model, x = Two(), torch.randn(6, 4)
    split, whole = step_of(model, (x,), {}, True, 3), Step(model, (x,), {}, True)
    split()
    found = [g.clone() for g in split.gradients]
    whole.forget()
    whole()
    torch.testing.assert_close(found, whole.gradients)


def test_a_loss_of_the_model_is_taken() -> None:
    assert loss_of_output({"loss": torch.tensor(3.0), "out": torch.ones(2, requires_grad=True)}) == 3.0
    assert loss_of_output({"loss": None, "out": torch.ones(2, requires_grad=True)}) == 1.0
