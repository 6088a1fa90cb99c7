"""Models that differentiate in their forward: physics-informed losses, forces, gradient penalties."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd import functional

import torchplace as tp
from tests.pairs import Square, twice

PLACED = {"topology": "local:2", "solver": "random", "cost": "roofline"}
Leaf = Callable[[torch.Tensor], torch.Tensor]


def assigned(x: torch.Tensor) -> torch.Tensor:
    x = x * 1.0
    x.requires_grad = True
    return x


LEAVES: dict[str, Leaf] = {
    "as given": lambda x: x,
    "a clone": lambda x: x.clone().requires_grad_(True),
    "detached": lambda x: x.detach().requires_grad_(),
    "assigned": assigned,
}


class Field(nn.Module):
    """A field, its gradient, and its Laplacian."""

    def __init__(self, leaf: Leaf, second: bool = True) -> None:
        super().__init__()
        self.leaf, self.second = leaf, second
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """[points, 2] to [points, 1], [points, 2] and [points]."""
        with torch.enable_grad():
            x = self.leaf(x)
            u = self.net(x)
            (du,) = torch.autograd.grad(u.sum(), x, create_graph=True)
            if not self.second:
                return u, du
            parts = [torch.autograd.grad(du[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(2)]
            return u, du, parts[0] + parts[1]


def points(leaf: str, rows: int = 5) -> torch.Tensor:
    x = torch.randn(rows, 2, generator=torch.Generator().manual_seed(rows))
    return x.requires_grad_() if leaf == "as given" else x


def trained(call: Any, model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    outputs = call(x)
    torch.stack([y.square().mean() for y in outputs]).sum().backward()
    return [*outputs, *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("leaf", LEAVES)
def test_fields_are_captured_whole_and_trained_as_eager_trains_them(leaf: str) -> None:
    torch.manual_seed(0)
    reference = Field(LEAVES[leaf])
    model = copy.deepcopy(reference)
    placed = tp.compile(model, **PLACED)
    for rows in (5, 5, 7):
        expected = trained(reference, reference, points(leaf, rows))
        found = trained(placed, model, points(leaf, rows))
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)
        model.zero_grad()
        reference.zero_grad()
    assert {plan.broken for plan in tp.plans(placed)} == {""}


class Energy(nn.Module):
    """Keeps the graph of what it derives, and returns, only where it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = self.net(x).sum()
            (slope,) = torch.autograd.grad(energy, x, None, self.training, create_graph=self.training)
        return energy, -slope


@pytest.mark.parametrize("recorded", [False, True])
def test_what_has_been_derived_may_be_returned(recorded: bool) -> None:
    torch.manual_seed(0)
    reference = Energy().eval()
    placed = tp.compile(copy.deepcopy(reference), **PLACED)
    with torch.set_grad_enabled(recorded):
        for rows in (5, 5, 7):
            x = points("", rows)
            for a, b in zip(placed(x), reference(x), strict=True):
                torch.testing.assert_close(a.detach(), b.detach())
    assert {plan.broken for plan in tp.plans(placed)} == {""}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("leaf", ["a clone", "detached", "assigned"])
def test_fields_are_evaluated(leaf: str, frozen: bool) -> None:
    torch.manual_seed(0)
    reference = Field(LEAVES[leaf]).requires_grad_(not frozen).eval()
    placed = tp.compile(copy.deepcopy(reference), **PLACED)
    with torch.no_grad():
        for a, b in zip(placed(points(leaf)), reference(points(leaf)), strict=True):
            torch.testing.assert_close(a, b.detach())


def test_a_step_with_a_gradient_penalty() -> None:
    torch.manual_seed(0)
    reference = Field(LEAVES["detached"], second=False)
    model, x = copy.deepcopy(reference), points("detached", 6)

    def loss(output: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return output[0].square().mean() + (output[1].norm(dim=1) - 1).square().mean()

    step = tp.compile(model, loss_fn=loss, microbatches=2, **PLACED)
    expected = torch.stack([loss(reference(part)) for part in x.chunk(2)]).mean()
    expected.backward()
    torch.testing.assert_close(step(x), expected.detach())
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_a_backward_that_is_compiled_within_a_frame_does_not_wait_for_ever() -> None:
    """Dynamo held a lock while it called us, and traced what it called, for which it wanted that lock."""

    class Broken(Field):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            u = self.net(x)
            torch._dynamo.graph_break()
            return u, torch.autograd.grad(u.sum(), x)[0]

    torch.manual_seed(0)
    reference = Broken(LEAVES["as given"])
    placed = tp.compile(copy.deepcopy(reference), **PLACED)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(placed(points("as given"))), daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    for a, b in zip(found[0], reference(points("as given")), strict=True):
        torch.testing.assert_close(a, b)


class Slope(nn.Module):
    """The gradient of what a part makes, derived again in training."""

    def __init__(self, part: nn.Module, function: Leaf = torch.tanh) -> None:
        super().__init__()
        self.part, self.function = part, function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.part(x)
        (slope,) = torch.autograd.grad(self.function(y[0] if isinstance(y, tuple) else y).sum(), x, create_graph=True)
        return slope


def hooked() -> nn.Module:
    layer = nn.Linear(6, 6)
    layer.register_full_backward_hook(lambda *_: None)
    return layer


TWICE: dict[str, Callable[[], nn.Module]] = {
    "a function": lambda: Slope(nn.Linear(6, 6), Square.apply),
    "a hook": lambda: Slope(hooked()),
    "a layer that is an op": lambda: Slope(nn.GRU(6, 4)),
}


@pytest.mark.filterwarnings("ignore:something of 'Slope' cannot be captured")
@pytest.mark.parametrize("make", TWICE.values(), ids=TWICE)
def test_nothing_of_a_second_derivative_is_lost(make: Callable[[], nn.Module]) -> None:
    torch.compiler.reset()
    eager, model = twice(make)
    found = []
    for call in (eager, tp.compile(model, **PLACED)):
        x = torch.ones(3, 6).cumsum(0).div(7).requires_grad_()
        call(x).square().sum().backward()
        found.append([x.grad, *(p.grad for p in call.parameters())])
    torch.testing.assert_close(found[1], found[0])


def test_a_step_says_what_it_cannot_derive_twice() -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    eager = TWICE["a function"]()
    model = copy.deepcopy(eager)
    step = tp.compile(model, loss_fn=lambda slope: slope.square().sum(), microbatches=2, **PLACED)
    x = torch.randn(4, 6)
    with pytest.warns(UserWarning, match=r"not pipelined.*a derivative of a derivative, with an autograd.Function"):
        step(x.clone().requires_grad_())
    for part in x.chunk(2):
        (eager(part.clone().requires_grad_()).square().sum() / 2).backward()
    for mine, theirs in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


FUNCTIONAL: dict[str, Callable[..., Any]] = {
    "vjp": lambda f, x: functional.vjp(f, x, torch.ones_like(x), create_graph=True)[1],
    "jacobian": lambda f, x: functional.jacobian(f, x, create_graph=True),
    "hessian": lambda f, x: functional.hessian(lambda v: f(v).sum(), x, create_graph=True),
    "jvp": lambda f, x: functional.jvp(f, x, torch.ones_like(x), create_graph=True)[1],
    "hvp": lambda f, x: functional.hvp(lambda v: f(v).sum(), x, torch.ones_like(x), create_graph=True)[1],
}


class Derived(nn.Module):
    """What `torch.autograd.functional` makes of a layer."""

    def __init__(self, derive: Callable[..., Any]) -> None:
        super().__init__()
        self.derive, self.layer = derive, nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.derive(lambda v: self.layer(v).tanh(), x)
        return found


@pytest.mark.filterwarnings("ignore:something of 'Derived' cannot be captured")
@pytest.mark.parametrize("name", FUNCTIONAL)
def test_derivatives_of_functions(name: str) -> None:
    torch.compiler.reset()
    eager, model = twice(lambda: Derived(FUNCTIONAL[name]))
    placed = tp.compile(model, **PLACED)
    for call in (eager, placed):
        call(torch.ones(3, 6).cumsum(0).div(7)).square().sum().backward()
    torch.testing.assert_close([p.grad for p in placed.parameters()], [p.grad for p in eager.parameters()])
    if name in ("vjp", "jacobian", "hessian"):
        (plan,) = tp.plans(placed)
        assert not plan.broken
