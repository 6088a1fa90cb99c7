"""What a model warns of is said when it is captured, and breaks no graph."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

import torchplace as tp

pytestmark = pytest.mark.usefixtures("one_thread", "forgotten")

ROWS = torch.ones(2, 4)


class OfThisTest(FutureWarning):
    """Of this test alone."""


class Talking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        warnings.warn(f"an input of shape {tuple(x.shape)}", OfThisTest, stacklevel=2)
        warnings.warn(message="and more", category=OfThisTest, stacklevel=1)
        return self.a(x)  # type: ignore[no-any-return]


def test_warnings_are_given_at_the_capture() -> None:
    model = tp.compile(Talking(), topology="local:2", solver="random")
    with pytest.warns(OfThisTest) as said:
        model(ROWS)
    assert {str(one.message) for one in said} >= {"an input of shape (2, 4)", "and more"}
    assert {one.filename for one in said} == {__file__}
    (plan,) = tp.plans(model)
    assert not plan.broken


@pytest.mark.filterwarnings("ignore:.*:FutureWarning")
def test_what_is_to_be_ignored_is() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tp.compile(Talking(), topology="local:2")(ROWS)


def test_a_warning_that_is_an_error_is_raised() -> None:
    model = tp.compile(Talking(), topology="local:2")
    with warnings.catch_warnings():
        warnings.simplefilter("error", OfThisTest)
        with pytest.raises(OfThisTest, match="of shape"):
            model(ROWS)


def test_steps_of_models_that_warn() -> None:
    step = tp.compile(Talking(), loss_fn=lambda output: output.sum(), microbatches=2, topology="local:2")
    with pytest.warns(OfThisTest, match="and more"):
        assert torch.isfinite(step(ROWS))
