"""Models that write to their parameters behind autograd's back are trained as in eager, by steps, too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchplace as tp
from tests.pairs import pair, twice

pytestmark = pytest.mark.usefixtures("one_thread", "forgotten")

ROWS = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))


def masked(model: Model) -> None:
    model.a.weight.data *= model.mask


def clamped(model: Model) -> None:
    model.a.weight.data.clamp_(-0.2, 0.2)
    model.b.bias.data[1:3] = 0.5


def normed(model: Model) -> None:
    model.b.weight.data = F.normalize(model.b.weight.data, dim=1)


def averaged(model: Model) -> None:
    with torch.no_grad():
        model.b.weight.data = model.b.weight.data * 0.9 + model.a.weight.data * 0.1


class Model(nn.Module):
    """Two layers, of which something is written first."""

    def __init__(self, write: Callable[[Model], None]) -> None:
        super().__init__()
        self.write, self.a, self.b = write, nn.Linear(6, 6), nn.Linear(6, 6)
        self.mask: Tensor
        self.register_buffer("mask", torch.ones(6, 6).tril())

    def forward(self, x: Tensor) -> Tensor:
        self.write(self)
        return self.b(torch.tanh(self.a(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("write", [masked, clamped, normed, averaged])
def test_writes_are_eagers(write: Callable[[Model], None]) -> None:
    eager, placed = pair(lambda: Model(write))
    for _ in range(2):
        found, expected = placed(ROWS), eager(ROWS)
        torch.testing.assert_close(found, expected)
        for output in (found, expected):
            output.square().sum().backward()
    same(placed, eager)
    (plan,) = tp.plans(placed)
    assert not plan.broken


@pytest.mark.parametrize("write", [masked, clamped, normed, averaged])
def test_steps_write_at_every_microbatch(write: Callable[[Model], None]) -> None:
    eager, model = twice(lambda: Model(write))
    step = tp.compile(model, loss_fn=F.mse_loss, microbatches=2, reduction="sum", topology="local:2", solver="random")
    step(ROWS, target=torch.zeros(4, 6))
    for rows in ROWS.split(2):
        F.mse_loss(eager(rows), torch.zeros(2, 6)).backward()
    same(model, eager)


def same(model: nn.Module, eager: nn.Module) -> None:
    for mine, theirs in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_what_gradients_go_through_is_left_alone() -> None:
    class Returning(Model):
        def forward(self, x: Tensor) -> Tensor:
            scaled = self.b.bias.data.mul_(self.a.bias)
            return self.a(x) + scaled  # type: ignore[no-any-return]

    eager, placed = pair(lambda: Returning(masked))
    for call in (eager, placed):
        call(ROWS).square().sum().backward()
    torch.testing.assert_close(placed.a.bias.grad, eager.a.bias.grad)
    torch.testing.assert_close(placed.b.bias, eager.b.bias)
