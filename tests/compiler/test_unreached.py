"""Parameters that a backward does not reach have no gradient, as in eager."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

import torchplace as tp
from tests.pairs import pair, twice

pytestmark = pytest.mark.usefixtures("one_thread", "forgotten")

ROWS = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))


class Heads(nn.Module):
    """A trunk with two heads, and one that reads it detached."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(4, 4)
        self.heads = nn.ModuleList(nn.Linear(4, 2) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        trunk = self.trunk(x).relu()
        a, b, c = self.heads
        return a(trunk), b(trunk), c(trunk.detach())


class Passing(nn.Module):
    """Gives what it gets, too."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return x, x.view(-1), self.a(x), self.b(x)


def gradients(model: nn.Module) -> list[Tensor | None]:
    return [p.grad for p in model.parameters()]


def same(found: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> None:
    assert [g is None for g in found] == [g is None for g in expected]
    for mine, theirs in zip(found, expected, strict=True):
        if theirs is not None:
            torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("used", [(0,), (1,), (2,), (0, 2), (0, 1, 2)], ids=str)
def test_parameters_of_unused_outputs_have_none(used: tuple[int, ...]) -> None:
    models = pair(Heads)
    for model in models:
        outputs = model(ROWS)
        torch.stack([outputs[i].square().sum() for i in used]).sum().backward()
    eager, placed = models
    same(gradients(placed), gradients(eager))


def test_an_optimizer_leaves_alone_what_has_none() -> None:
    models = pair(Heads)
    for model in models:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
        for head in (0, 1, 0):
            optimizer.zero_grad()
            model(ROWS)[head].sum().backward()
            optimizer.step()
    same(list(models[1].parameters()), list(models[0].parameters()))


def test_a_graph_that_is_gone_through_twice() -> None:
    models = pair(Heads)
    for model in models:
        outputs = model(ROWS)
        outputs[0].sum().backward(retain_graph=True)
        outputs[1].sum().backward()
    same(gradients(models[1]), gradients(models[0]))


def test_outputs_that_are_inputs_of_another_graph() -> None:
    (first, placed_first), (second, placed_second) = pair(Passing), pair(Passing)
    for one, other in ((first, second), (placed_first, placed_second)):
        same_input, flat, made, _ = other(one(ROWS)[2])
        (same_input.sum() + flat.sum() + made.sum()).backward()
    same(gradients(placed_first), gradients(first))
    same(gradients(placed_second), gradients(second))


def test_inputs_that_are_not_reached() -> None:
    def function(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x * 2, y * 3

    placed = tp.compile(function, topology="local:2", solver="random")
    x, y = (torch.ones(3, requires_grad=True) for _ in range(2))
    placed(x, y)[1].sum().backward()
    assert x.grad is None
    assert y.grad is not None


class Keeping(Heads):
    """Keeps what another head gives."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outputs = super().forward(x)
        self.kept = outputs[1]
        return outputs


@pytest.mark.parametrize("make", [Heads, Keeping])
def test_steps_leave_them_out_too(make: Callable[[], Heads]) -> None:
    eager, model = twice(make)
    options = {"microbatches": 3, "topology": "local:2", "solver": "random"}
    tp.compile(model, loss_fn=lambda outputs: outputs[0].sum(), reduction="sum", **options)(ROWS)
    eager(ROWS)[0].sum().backward()
    same(gradients(model), gradients(eager))
