"""Covariances are torch's own, to the last bit, and break no graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import torchplace as tp
from tests.pairs import close, pair, trained
from torchplace.compiler.covariances import corrcoef, cov

ROWS = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
OFTEN, MUCH = torch.tensor([1, 2, 1, 3, 1, 1]), torch.tensor([0.5, 0.1, 1.0, 0.2, 0.7, 0.3])


@pytest.mark.parametrize("rows", [ROWS, ROWS[0], ROWS.double(), torch.complex(ROWS, ROWS.flip(1))])
@pytest.mark.parametrize(
    "options",
    [{}, {"correction": 0}, {"fweights": OFTEN}, {"aweights": MUCH}, {"fweights": OFTEN, "aweights": MUCH}],
)
def test_values_are_those_of_torch(rows: torch.Tensor, options: dict[str, Any]) -> None:
    torch.testing.assert_close(cov(rows, **options), torch.cov(rows, **options))
    torch.testing.assert_close(corrcoef(rows), torch.corrcoef(rows))


class Decorrelated(nn.Module):
    """What its features have in common is a part of what is minimised."""

    def __init__(self, found: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.body, self.found = nn.Linear(8, 5), found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.body(x)
        together = self.found(features.T)
        return features.mean() + (together - together.diagonal().diag()).square().sum()


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(
    "found",
    [torch.cov, torch.corrcoef, lambda x: x.cov(correction=0), lambda x: x.corrcoef()],
    ids=["cov", "corrcoef", "method cov", "method corrcoef"],
)
def test_models_with_covariances_are_captured_whole(found: Callable[[torch.Tensor], torch.Tensor]) -> None:
    eager, placed = pair(lambda: Decorrelated(found), fullgraph=True)
    for rows in (4, 7):
        x = torch.randn(rows, 8)
        close(trained(placed, x), trained(eager, x))
    assert not any(plan.broken for plan in tp.plans(placed))
