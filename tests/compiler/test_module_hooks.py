"""Backward hooks of modules are called in captured graphs as eager calls them, and what they return counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchplace as tp
from tests.pairs import twice
from torchplace.errors import ExecutionError

pytestmark = pytest.mark.usefixtures("one_thread", "forgotten")

ROWS = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
Heard = list[tuple[str, Any, Any]]


class Two(nn.Module):
    """Takes a tensor, a number and none, and returns two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor, scale: float, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = self.inner(x) * scale
        return z, z.tanh() if y is None else y + z


class Model(nn.Module):
    """A part that takes and gives several values, one that is called twice, and plain ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.two, self.twice, self.last = nn.Linear(8, 8), Two(), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        a, b = self.two(x, 0.5, x.relu())
        return self.last(self.twice(self.twice(a).relu()) + b)  # type: ignore[no-any-return]


def pair(listen: Callable[[nn.Module, Heard], None], **options: Any) -> list[tuple[Any, nn.Module, Heard]]:
    """The model in eager and placed, each as it is called, itself, and what its hooks have heard."""
    models, heard = twice(Model), (Heard(), Heard())
    for model, own in zip(models, heard, strict=True):
        listen(model, own)
    eager, placed = models
    call = tp.compile(placed, **{"topology": "local:2", "solver": "random", "seed": 2, **options})
    return [(eager, eager, heard[0]), (call, placed, heard[1])]


def listen(model: nn.Module, heard: Heard) -> None:
    """Note what every module is told."""
    for name, module in model.named_modules():
        module.register_full_backward_hook(lambda _, given, got, n=name: heard.append((n, given, got)))
        module.register_full_backward_pre_hook(lambda _, got, n=name: heard.append((f"before {n}", None, got)))


def trained(call: Any, model: nn.Module, x: Tensor = ROWS) -> list[Tensor]:
    x = x.clone().requires_grad_()
    output = call(x)
    output.square().mean().backward()
    return [output.detach(), x.grad, *(p.grad for p in model.parameters())]


def same(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def same_heard(found: Heard, expected: Heard) -> None:
    """Module by module: those on other devices are not told in eager's order."""
    found, expected = (sorted(heard, key=lambda one: one[0]) for heard in (found, expected))
    assert [one[0] for one in found] == [one[0] for one in expected]
    same([one[1:] for one in found], [one[1:] for one in expected])


def test_hooks_are_told_what_eager_tells_them() -> None:
    (eager, model, expected), (placed, other, heard) = pair(listen)
    same(trained(placed, other), trained(eager, model))
    (plan,) = tp.plans(placed)
    assert not plan.broken
    assert len(plan.ops_on) == 2
    assert len(heard) == len(expected) == 14
    same_heard(heard, expected)
    calls = len(heard)
    trained(placed, other)
    assert len(heard) == 2 * calls, "told at every call"


def test_what_hooks_return_takes_the_place_of_gradients() -> None:
    def change(model: Any, _: Heard) -> None:
        model.two.register_full_backward_hook(lambda _, given, got: (given[0] * 2, None, given[2] + got[1].sum()))
        model.two.register_full_backward_pre_hook(lambda _, got: (got[0] - 1, got[1] * 3))
        model.last.register_full_backward_hook(lambda _, given, got: (given[0].clamp(-0.1, 0.1),))

    (eager, model, _), (placed, other, _) = pair(change)
    same(trained(placed, other), trained(eager, model))


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_a_module_whose_inputs_have_no_gradients() -> None:
    (eager, model, expected), (placed, other, heard) = pair(listen)
    for call in (eager, placed):
        call(ROWS).square().mean().backward()
    same_heard(heard, expected)
    assert ("first", (None,)) in [one[:2] for one in heard]
    same([p.grad for p in other.parameters()], [p.grad for p in model.parameters()])


def test_hooks_of_all_modules() -> None:
    heard: Heard = []
    _, (placed, other, _) = pair(lambda *_: None)
    handle = nn.modules.module.register_module_full_backward_hook(lambda m, *_: heard.append((type(m).__name__, 0, 0)))
    try:
        trained(placed, other)
    finally:
        handle.remove()
    assert sorted(one[0] for one in heard) == ["Linear"] * 5 + ["Model", "Two"]


def test_hooks_that_come_and_go() -> None:
    heard: Heard = []
    _, (placed, other, _) = pair(lambda *_: None)
    trained(placed, other)
    handle = other.two.register_full_backward_hook(lambda *_: heard.append(("two", 0, 0)))
    trained(placed, other)
    assert len(heard) == 1
    handle.remove()
    trained(placed, other)
    assert len(heard) == 1, "told no more"


def test_a_step_tells_hooks_of_every_microbatch() -> None:
    heard: Heard = []
    _, (_, model, _) = pair(lambda *_: None)
    model.twice.register_full_backward_hook(lambda _, given, got: heard.append(("twice", given[0].shape, got[0].shape)))  # type: ignore[union-attr,operator]
    step = tp.compile(model, loss_fn=nn.functional.mse_loss, microbatches=2, topology="local:2", solver="random")
    step(ROWS, target=torch.zeros(4, 3))
    assert heard == [("twice", (2, 8), (2, 8))] * 4


def test_evaluation_calls_none() -> None:
    (eager, _, _), (placed, _, heard) = pair(listen)
    with torch.no_grad():
        same(placed(ROWS), eager(ROWS))
    assert not heard


def test_a_hook_that_fails_is_named() -> None:
    def fail(*_: Any) -> None:
        raise ArithmeticError("not today")

    _, (placed, other, _) = pair(lambda model, _: model.last.register_full_backward_hook(fail) and None)
    with pytest.raises(ExecutionError, match="hooked_inputs.*not today"):
        trained(placed, other)


def test_a_hook_that_returns_too_much_is_an_error() -> None:
    _, (placed, other, _) = pair(
        lambda model, _: model.last.register_full_backward_hook(lambda _, given, got: given * 2) and None
    )
    with pytest.raises(ExecutionError, match="returned 2 gradients; expected 1"):
        trained(placed, other)
