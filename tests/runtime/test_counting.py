"""Numbers of Python that a forward changes are named: a step changes them once."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

import torchplace as tp
from torchplace.runtime.counting import numbers_of

pytestmark = pytest.mark.usefixtures("one_thread", "forgotten")


class Counting(nn.Module):
    """Counts its calls, in Python and in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 2)
        self.inner.calls, self.inner.rate, self.inner.on = 0, 0.5, True  # type: ignore[assignment]
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.inner.calls += 1  # type: ignore[operator, assignment]
        self.seen += 1
        return self.inner(x)  # type: ignore[no-any-return]


def test_numbers_of_a_model() -> None:
    found = numbers_of(Counting())
    assert {name: value for name, value in found.items() if name.endswith(("calls", "rate", "on"))} == {
        "inner.calls": 0,
        "inner.rate": 0.5,
    }
    assert numbers_of(len) == {}


def test_a_step_says_what_it_changes_once() -> None:
    model = Counting()
    step = tp.compile(model, loss_fn=lambda output: output.sum(), microbatches=3, topology="local:2", solver="random")
    with pytest.warns(UserWarning, match=r"'Counting' changes 'inner.calls': .* once for its 3 micro-batches") as said:
        step(torch.ones(6, 4))
    assert said[0].filename == __file__
    assert model.inner.calls == 1
    assert model.seen == 3


def test_one_microbatch_is_as_eager() -> None:
    model = Counting()
    step = tp.compile(model, loss_fn=lambda output: output.sum(), microbatches=1, topology="local:2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(torch.ones(6, 4))
    assert model.inner.calls == 1
