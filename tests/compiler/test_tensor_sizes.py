"""Sizes that a model gives as tensors of one number do not break the graph."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torchplace as tp

pytestmark = pytest.mark.usefixtures("forgotten")


class Net(nn.Module):
    def __init__(self, way: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.way = nn.Linear(6, 6), way

    def forward(self, x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        return self.way(self.first(x), n).tanh()


def padded(x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    return F.pad(x, [0, n[0]]).sum(1)


def resized(x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x[:, None], size=(n[1],))


@pytest.mark.parametrize("way", [padded, resized])
def test_sizes_in_tensors_are_taken_out_of_them(way: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    model = Net(way)
    placed = tp.compile(copy.deepcopy(model), topology="local:2", solver="random", fullgraph=True)
    for numbers in ([2, 3], [2, 3], [1, 2]):
        x = torch.randn(3, 6)
        torch.testing.assert_close(placed(x, torch.tensor(numbers)), model(x, torch.tensor(numbers)))
    assert len(tp.plans(placed)) == 2


def test_sizes_that_a_model_computes_stay_symbols() -> None:
    model = Net(lambda x, n: F.pad(x, [0, (x > 0).sum()]).sum(1))
    placed = tp.compile(copy.deepcopy(model), topology="local:2", solver="random", fullgraph=True)
    for seed in range(3):
        x = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(placed(x, torch.tensor([1])), model(x, torch.tensor([1])))
    assert len(tp.plans(placed)) == 1
