"""Branches on values whose ways only compute are captured whole, and do what eager does; others break the graph."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import torchplace as tp
from torchplace.compiler import foresight

pytestmark = pytest.mark.usefixtures("forgotten")
Way = Callable[["Net", torch.Tensor], Any]


class Net(nn.Module):
    """Two layers, and something of both in its forward."""

    def __init__(self, forward: Way) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.way = nn.Linear(6, 6), nn.Linear(6, 6), forward
        self.seen = 0

    def forward(self, x: torch.Tensor) -> Any:
        return self.way(self, x)


def clamped(net: Net, x: torch.Tensor) -> Any:
    h = net.a(x)
    if not torch.isfinite(h).all():
        most = torch.finfo(h.dtype).max - 1000
        h = torch.clamp(h, min=-most, max=most)
    return net.b(h)


def chosen(net: Net, x: torch.Tensor) -> Any:
    h = net.a(x)
    return net.b(h.tanh() if float(h.detach().sum()) > 0 else h.exp())


def returned(net: Net, x: torch.Tensor) -> Any:
    h = net.b(net.a(x))
    if h.mean() > 0:
        return h
    h = h.sigmoid()
    return h * 2


def of_other_layers(net: Net, x: torch.Tensor) -> Any:
    h = net.a(x)
    return net.b(h) if h.mean() > 0 else h


def of_two_tensors(net: Net, x: torch.Tensor) -> Any:
    h, scale = net.a(x), 2.0
    if scale > 1 and x.max().item() > 1.5:
        y = h * scale
        h = h.sin()
    else:
        y = h.tanh()
        h = h / 2
    return net.b(y + h)


def in_a_loop(net: Net, x: torch.Tensor) -> Any:
    for layer in (net.a, net.b):
        if x.abs().amax() > 1:
            x = x / x.abs().amax().detach()
        x = layer(x)
    return x


def without_gradients(net: Net, x: torch.Tensor) -> Any:
    with torch.no_grad():
        shift = x.mean() * 2 if (x > 0).any() else x.mean() - 1
    return net.b(net.a(x) + shift)


def in_a_context(net: Net, x: torch.Tensor) -> Any:
    h = net.a(x)
    with torch.no_grad():
        if h.sum() > 0:
            return h * 2
        return h - 1


def writing(net: Net, x: torch.Tensor) -> Any:
    h = net.a(x)
    if h.sum() > 0:
        h *= 2
    return net.b(h)


def noted(net: Net, x: torch.Tensor) -> Any:
    h = net.a(x)
    if h.sum() > 0:
        net.seen += 1
    return net.b(h)


def of_two_sizes(net: Net, x: torch.Tensor) -> Any:
    h = net.a(x)
    h = h if h.sum() > 0 else h[:1]
    return net.b(h)


def long(net: Net, x: torch.Tensor) -> Any:
    if x.sum() > 0:
        x = net.a(net.a(net.a(net.a(net.a(net.a(net.a(net.a(net.a(net.a(net.a(net.a(x)))))))))))).sin().cos().exp()
        x = x + x * x - x / 2 + x.tanh() * x.sigmoid() + x.relu() * x.abs() - x.neg() + x.square() * x.sin() - x.cos()
        x = x + x * x - x / 2 + x.tanh() * x.sigmoid() + x.relu() * x.abs() - x.neg() + x.square() * x.sin() - x.cos()
    return net.b(x)


INPUTS = [torch.randn(4, 6, generator=torch.Generator().manual_seed(i)) * s + s for i, s in enumerate((1.0, -1.0, 3.0))]


def results(net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Output, then gradients, of its own and of its input."""
    net.zero_grad()
    x = x.clone().requires_grad_()
    output = net(x)
    output.square().sum().backward()
    grads = [torch.zeros(()) if p.grad is None else p.grad.clone() for p in (x, *net.parameters())]
    return [output.detach(), *grads]


def held_against_eager(way: Way, inputs: list[torch.Tensor]) -> list[str]:
    """Where the graphs break."""
    eager = Net(way)
    placed = tp.compile(copy.deepcopy(eager), topology="local:2", solver="random")
    for x in inputs:
        torch.testing.assert_close(results(placed, x), results(eager, x))
        assert placed.seen == eager.seen
    return [plan.broken for plan in tp.plans(placed)]


@pytest.mark.parametrize("way", [clamped, chosen, returned, in_a_loop, without_gradients])
def test_what_only_computes_is_captured_whole(way: Way) -> None:
    assert held_against_eager(way, INPUTS) == [""]


def test_what_is_behind_a_context_is_left_as_it_was() -> None:
    eager = Net(in_a_context)
    placed = tp.compile(copy.deepcopy(eager), topology="local:2")
    for x in INPUTS:
        torch.testing.assert_close(placed(x), eager(x))
        assert torch.is_grad_enabled()


def test_as_a_dynamo_backend_a_branch_breaks_the_graph() -> None:
    eager = Net(chosen)
    placed = torch.compile(copy.deepcopy(eager), backend="torchplace", options={"topology": "local:2"})
    for x in INPUTS:
        torch.testing.assert_close(placed(x), eager(x))


def test_what_is_not_finite_is_clamped() -> None:
    eager = Net(clamped)
    placed = tp.compile(copy.deepcopy(eager), topology="local:2", solver="random")
    for x in (INPUTS[0], INPUTS[0] * torch.inf):
        torch.testing.assert_close(placed(x), eager(x), equal_nan=True)


@pytest.mark.parametrize("way", [writing, noted, of_two_sizes, of_two_tensors, of_other_layers, long])
def test_other_branches_are_expected_to_go_as_they_did(way: Way) -> None:
    assert held_against_eager(way, INPUTS) == ["", ""]


@pytest.mark.parametrize("way", [writing, noted, of_two_sizes, of_two_tensors, of_other_layers, long])
@pytest.mark.filterwarnings("ignore:something of")
def test_where_nothing_is_expected_they_break_the_graph_and_go_on(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foresight, "MOST_EXPECTED", 0)
    monkeypatch.setattr(foresight, "MOST_UNEXPECTED", 0)
    assert any(held_against_eager(way, INPUTS))


def test_a_way_that_draws_is_no_choice() -> None:
    def dropping(net: Net, x: torch.Tensor) -> Any:
        return net.b(F.dropout(x, 0.5) if x.sum() > 0 else x)

    placed = tp.compile(Net(dropping), topology="local:2")
    placed(INPUTS[0])
    assert [bool(plan.found) for plan in tp.plans(placed)] == [True]


def test_a_step_is_pipelined() -> None:
    eager = Net(chosen)
    model = copy.deepcopy(eager)
    options: dict[str, Any] = {"topology": "local:2", "solver": "random", "fullgraph": True}
    step = tp.compile(model, loss_fn=F.mse_loss, microbatches=2, **options)
    x, y = torch.cat(INPUTS[:2]), torch.randn(8, 6)
    found, expected = step(x, y), torch.zeros(())
    for some, wanted in zip(x.chunk(2), y.chunk(2), strict=True):
        loss = F.mse_loss(eager(some), wanted) / 2
        loss.backward()
        expected = expected + loss.detach()
    torch.testing.assert_close(found, expected)
    for mine, theirs in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


STEPS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "tanh": torch.tanh, "half": lambda x: x / 2, "less": lambda x: x - 0.3, "flip": lambda x: -x, "same": lambda x: x,
}  # fmt: skip


@settings(max_examples=6)
@given(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.sampled_from(sorted(STEPS))), min_size=1, max_size=3))
def test_any_choices_in_a_row_give_what_eager_gives(pairs: list[tuple[str, str]]) -> None:
    def choosing(net: Net, x: torch.Tensor) -> Any:
        x = net.a(x)
        for one, other in pairs:
            first, second = STEPS[one], STEPS[other]
            x = first(x) if x.mean() > 0 else second(x)
        return net.b(x)

    torch.compiler.reset()
    assert held_against_eager(choosing, INPUTS[:2]) == [""]
