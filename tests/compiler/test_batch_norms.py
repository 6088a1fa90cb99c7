"""Batch norms with `momentum=None` average over all batches, as in eager, and break no graph."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchplace as tp
from tests.pairs import close, pair, trained, twice

pytestmark = pytest.mark.usefixtures("forgotten")


def model() -> nn.Module:
    last = nn.BatchNorm1d(4, momentum=None, affine=False)
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6, momentum=None), nn.ReLU(), nn.Linear(6, 4), last, nn.Tanh())


def test_calls_average_over_all_batches() -> None:
    eager, placed = pair(model, fullgraph=True)
    for rows in (4, 5, 6):
        x = torch.randn(rows, 8)
        close(trained(placed, x), trained(eager, x))
    x = torch.randn(3, 8)
    close(placed.eval()(x), eager.eval()(x))


def test_steps_average_over_micro_batches() -> None:
    eager, placed = twice(model)
    step = tp.compile(placed, loss_fn=lambda y: y.square().mean(), microbatches=2, topology="local:2", solver="random")
    for _ in range(2):
        x = torch.randn(8, 8)
        expected = torch.stack([eager(part).square().mean() for part in x.chunk(2)]).mean()
        close(step(x), expected.detach())
        close(list(placed.buffers()), list(eager.buffers()))
