"""Checks of values are part of the graph, and fail when they should; what is no check is left to Python."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torchplace as tp
from tests.compiler import checking
from torchplace.errors import ExecutionError

pytestmark = pytest.mark.usefixtures("forgotten")

Function = Callable[[torch.Tensor], torch.Tensor]

KINDS: dict[Function, type[Exception]] = {
    checking.raises: ValueError,
    checking.raises_unless: KeyError,
    checking.raises_otherwise: RuntimeError,
    checking.asserts: AssertionError,
    checking.asserts_and_says: AssertionError,
    checking.looks_at_an_item: ValueError,
    checking.looks_at_a_number: AssertionError,
    checking.looks_within_another: ValueError,
}
FINE, BAD = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 5.0])


def compiled(function: Function) -> Function:
    return tp.compile(function, topology="local:2", cost="roofline")


@pytest.mark.parametrize("function", KINDS, ids=lambda f: f.__name__)
def test_a_check_is_an_op_that_fails_when_it_should(function: Function) -> None:
    placed = compiled(function)
    torch.testing.assert_close(placed(FINE), function(FINE))
    assert [plan.broken for plan in tp.plans(placed)] == [""]
    with pytest.raises(KINDS[function], match=r"checking\.py:\d+") as found:
        placed(BAD)
    assert isinstance(found.value, ExecutionError)
    with pytest.raises(KINDS[function]):
        function(BAD)
    torch.testing.assert_close(placed(FINE), function(FINE))
    assert len(tp.plans(placed)) == 1


def test_an_error_has_the_line_that_raises_or_what_an_assertion_says() -> None:
    with pytest.raises(ExecutionError, match="raise ValueError"):
        compiled(checking.raises)(BAD)
    with pytest.raises(ExecutionError, match="it is too much"):
        compiled(checking.asserts_and_says)(BAD)


@pytest.mark.parametrize("function", [checking.tries, checking.chooses, checking.raises_its_own])
@pytest.mark.filterwarnings("ignore:something of")
def test_what_is_caught_and_what_does_something_else_is_done_as_in_eager(function: Function) -> None:
    placed = compiled(function)
    torch.testing.assert_close(placed(FINE), function(FINE))
    if function is checking.raises_its_own:
        with pytest.raises(checking.OwnError):
            placed(BAD)
    else:
        torch.testing.assert_close(placed(BAD), function(BAD))


class Labelled(nn.Module):
    """Checks what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        if x.max() >= 100:
            raise ValueError(f"inputs must be < 100: {x.max()}")
        return {"loss": F.cross_entropy(self.head(x), labels)}


def test_a_step_of_a_model_that_checks_its_input() -> None:
    model = Labelled()
    step = tp.compile(model, microbatches=2, topology="local:2", cost="roofline")
    x, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    torch.testing.assert_close(step(x, labels=labels), model(x, labels)["loss"].detach())
    with pytest.raises(ExecutionError, match="inputs must be < 100"):
        step(x + 100, labels=labels)
    torch.testing.assert_close(step(x, labels=labels), model(x, labels)["loss"].detach())
