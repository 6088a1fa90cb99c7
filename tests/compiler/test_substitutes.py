"""What Dynamo traces in place of functions of torch that look at values."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import torchplace as tp
from tests.pairs import close, pair, trained


class Both(nn.Module):
    """An encoder and a decoder, with a mask that they get, or make."""

    def __init__(self, made: bool) -> None:
        super().__init__()
        self.made, self.body = made, nn.Transformer(8, 2, 1, 1, 16, 0.0, batch_first=True)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        if self.made:
            mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        y: torch.Tensor = self.body(x, x, tgt_mask=mask)
        return y


@pytest.mark.parametrize(("made", "causal"), [(False, False), (False, True), (True, True)])
def test_a_transformer_with_a_mask_is_captured_whole(made: bool, causal: bool) -> None:
    torch.manual_seed(0)
    reference = Both(made)
    placed = tp.compile(copy.deepcopy(reference), topology="local:2", solver="random", cost="roofline")
    size = 6
    mask = nn.Transformer.generate_square_subsequent_mask(size)
    if not causal:
        mask = mask.flip(0).flip(1)
    for rows in (3, 3, 4):
        x = torch.randn(rows, size, 8)
        expected, found = (m(x) if made else m(x, mask) for m in (reference, placed))
        torch.testing.assert_close(found, expected)
    assert {plan.broken for plan in tp.plans(placed)} == {""}


class Gaussian(nn.Module):
    """A mean and a variance, and how likely the rows are under them: a loss that checks its variances."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.loss = nn.Linear(8, 2), nn.GaussianNLLLoss()

    def forward(self, x: torch.Tensor, sign: float = 1.0) -> torch.Tensor:
        mean, spread = self.body(x).chunk(2, 1)
        loss: torch.Tensor = self.loss(mean, x[:, :1], sign * spread.exp())
        return loss


@pytest.mark.usefixtures("forgotten")
def test_a_loss_that_checks_variances_is_captured_whole() -> None:
    eager, placed = pair(Gaussian, fullgraph=True)
    for rows in (4, 5):
        x = torch.randn(rows, 8)
        close(trained(placed, x), trained(eager, x))
    with pytest.raises(ValueError, match="negative"):
        placed(x, -1.0)


class Selecting(nn.Module):
    """Takes what a mask says of rows that are there for each of its own."""

    def __init__(self, method: bool) -> None:
        super().__init__()
        self.body, self.method = nn.Linear(8, 6), method

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        row, mask = self.body(x)[:1], x[:, :6] > -1
        return row.masked_select(mask) if self.method else torch.masked_select(row, mask)


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("method", [False, True])
def test_more_may_be_selected_than_an_input_has(method: bool) -> None:
    eager, placed = pair(lambda: Selecting(method), fullgraph=True)
    for rows in (4, 5):
        x = torch.randn(rows, 8)
        close(trained(placed, x), trained(eager, x))
