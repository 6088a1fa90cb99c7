"""What hangs on what a model computes is expected to stay as it is: whole graphs, and what eager gives when it does not."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import torchplace as tp
from torchplace.compiler import foresight

pytestmark = pytest.mark.usefixtures("forgotten")
Way = Callable[["Mixture", Tensor, Tensor, Tensor], Tensor]


class Mixture(nn.Module):
    """Three experts, a router that goes by the sign and size of a row's first number, and a count of calls."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.way, self.first = way, nn.Linear(4, 4)
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.named = nn.ModuleDict({f"expert_{i}": expert for i, expert in enumerate(self.experts)})
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        weights = self.first(x).sigmoid().mean(-1, keepdim=True)
        chosen = (x[:, 0] > 0).long() + (x[:, 0] > 1).long() + (self.first(x).sum() * 0).long()
        return self.way(self, x, chosen, weights)


def masked(net: Mixture, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    for i, expert in enumerate(net.experts):
        mask = chosen == i
        if mask.any():
            out[mask] = expert(x[mask]) * weights[mask]
    return out


def skipped(net: Mixture, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    for i, expert in enumerate(net.experts):
        rows = (chosen == i).nonzero().flatten()
        if rows.numel() == 0:
            continue
        out = out.index_add(0, rows, expert(x[rows]) * weights[rows])
    return out


def hit(net: Mixture, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    for i in F.one_hot(chosen, 3).sum(0).nonzero():
        (rows,) = torch.where(chosen == i)
        out.index_add_(0, rows, net.experts[i](x[rows]) * weights[rows])
    return out


def called(net: Mixture, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    for i in chosen.unique():
        mask = (chosen == i)[:, None]
        out = out + net.named[f"expert_{i}"](x) * weights * mask
    return out


def halved(net: Mixture, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    while x.norm() > 5:
        x = net.experts[0](x) * 0.5
    return x * weights


def recomputed(net: Mixture, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    again: Tensor = checkpoint(hit, net, x, chosen, weights, use_reentrant=False)
    return again + checkpoint(skipped, net, again, chosen, weights, use_reentrant=False)


WAYS = [masked, skipped, hit, called, halved, recomputed]
INPUTS = torch.tensor([[-1.0, 0.5, 2.0], [-1.0, 2.0, 0.5], [-2.0, -1.0, -3.0], [-1.0, 0.5, 2.0]])
"""First numbers of rows: of all sorts, all sorts again, one sort, and all."""


def rows(first: Tensor | Sequence[float]) -> Tensor:
    first = torch.as_tensor(first)
    return torch.cat([first[:, None], torch.arange(3.0).repeat(len(first), 1)], 1)


def assert_as_eager(placed: nn.Module, eager: nn.Module, x: Tensor) -> None:
    """Outputs, gradients, and buffers."""
    results = []
    for model in (placed, eager):
        model.zero_grad()
        results.append(model(x))
        results[-1].square().sum().backward()
    torch.testing.assert_close(*results)
    for mine, theirs in zip(placed.parameters(), eager.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad)
    torch.testing.assert_close(placed.calls, eager.calls)


def assert_step_as_eager(step: Any, eager: nn.Module, x: Tensor) -> None:
    """Loss and gradients, of two micro-batches of three rows."""
    y = torch.ones(6, 4)
    loss = step(x, y)
    expected = [F.mse_loss(eager(x[s]), y[s]) / 2 for s in (slice(0, 3), slice(3, 6))]
    for part in expected:
        part.backward()
    torch.testing.assert_close(loss, sum(expected).detach())
    for mine, theirs in zip(step.model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def pair(way: Way, **options: Any) -> tuple[nn.Module, nn.Module]:
    eager = Mixture(way)
    return tp.compile(copy.deepcopy(eager), topology="local:2", solver="random", **options), eager


@pytest.mark.parametrize("way", WAYS)
def test_it_is_captured_whole_and_again_where_it_is_not_as_expected(way: Way) -> None:
    placed, eager = pair(way, fullgraph=True)
    for first in INPUTS:
        assert_as_eager(placed, eager, rows(first))
    plans = tp.plans(placed)
    assert len(plans) == 2
    assert all("test_speculation.py" in plan.found[0] and "expects" in plan.found[0] for plan in plans)


def test_one_that_is_as_expected_is_captured_once() -> None:
    placed, eager = pair(masked, fullgraph=True)
    for first in (INPUTS[0], INPUTS[1], INPUTS[3]):
        assert_as_eager(placed, eager, rows(first))
    assert len(tp.plans(placed)) == 1


@settings(max_examples=3, deadline=None)
@given(st.sampled_from(WAYS), st.lists(st.lists(st.floats(-3, 3), min_size=3, max_size=3), min_size=1, max_size=4))
@pytest.mark.filterwarnings("ignore:something of")
def test_it_is_what_eager_does_for_any_rows(way: Way, calls: Sequence[Sequence[float]]) -> None:
    torch.compiler.reset()
    placed, eager = pair(way)
    for first in calls:
        assert_as_eager(placed, eager, rows(first))


def test_calls_that_no_graph_expects_run_as_they_are_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foresight, "MOST_EXPECTED", 1)
    placed, eager = pair(hit)
    assert_as_eager(placed, eager, rows(INPUTS[0]))
    with pytest.warns(UserWarning, match=r"test_speculation.py:\d+ comes to what no graph expects"):
        assert_as_eager(placed, eager, rows(INPUTS[2]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for first in (INPUTS[1], INPUTS[2], INPUTS[3], INPUTS[2]):
            assert_as_eager(placed, eager, rows(first))
    assert [plan.broken for plan in tp.plans(placed)] == [""]


def test_what_is_expected_may_change_in_the_long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foresight, "MOST_EXPECTED", 1)
    monkeypatch.setattr(foresight, "_CALLS", 3)
    placed, eager = pair(hit)
    for first in (INPUTS[0], INPUTS[0], INPUTS[0], INPUTS[2], INPUTS[2]):
        assert_as_eager(placed, eager, rows(first))
    assert [plan.broken for plan in tp.plans(placed)] == ["", ""]


@pytest.mark.filterwarnings("ignore:something of")
def test_where_most_calls_are_unexpected_the_graph_breaks_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foresight, "MOST_EXPECTED", 1)
    monkeypatch.setattr(foresight, "MOST_UNEXPECTED", 1)
    placed, eager = pair(hit)
    for first in (INPUTS[0], INPUTS[2]):
        assert_as_eager(placed, eager, rows(first))
    plans = tp.plans(placed)
    assert any(plan.broken for plan in plans[1:])
    for first in (INPUTS[0], INPUTS[2]):
        assert_as_eager(placed, eager, rows(first))
    assert not any("expects" in found for plan in tp.plans(placed)[1:] for found in plan.found)


def test_what_a_graph_wrote_that_was_tried_in_vain_is_set_back() -> None:
    placed, eager = pair(masked)
    cache = torch.zeros(2)

    def counting(net: Mixture, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        cache.add_(x[:2, 0].detach())
        return masked(net, x, chosen, weights)

    for model in (placed, eager):
        model.way, expected = counting, torch.zeros(2)
        cache.zero_()
        for first in INPUTS:
            model(rows(first))
            expected += first[:2]
            torch.testing.assert_close(cache, expected)


@pytest.mark.filterwarnings("ignore:something of")
def test_dropout_may_decide() -> None:
    def dropping(net: Mixture, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        kept = F.dropout(torch.ones(2), 0.5)
        return net.experts[0](x) if kept.sum() > 1 else net.experts[1](x)

    placed, eager = pair(dropping)
    x = rows(INPUTS[0])
    wanted = [eager.experts[i](x) for i in range(2)]
    for seed in range(8):
        torch.manual_seed(seed)
        first = placed(x)
        torch.manual_seed(seed)
        torch.testing.assert_close(placed(x), first)
        assert any(torch.allclose(first, one, atol=1e-5) for one in wanted)


def test_an_error_of_the_models_own_is_raised() -> None:
    def checking(net: Mixture, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        if (x[:, 1] > 5).any():
            raise ValueError("too much")
        return masked(net, x, chosen, weights)

    placed, eager = pair(checking)
    x = rows(INPUTS[0])
    assert_as_eager(placed, eager, x)
    wrong = x.clone()
    wrong[0, 1] = 6
    with pytest.raises(ValueError, match="too much"):
        placed(wrong)
    eager.calls.copy_(placed.calls)
    assert_as_eager(placed, eager, x)
    assert len(tp.plans(placed)) == 1


@pytest.mark.parametrize("kept", [False, True])
def test_a_step_begins_anew(kept: bool) -> None:
    eager = Mixture(masked)
    model = copy.deepcopy(eager)
    options: dict[str, Any] = {"topology": "local:2", "solver": "random", "fullgraph": True}
    step = tp.compile(model, loss_fn=F.mse_loss, microbatches=2, **options)
    for first in INPUTS:
        for net in (model, eager):
            if not kept:
                net.zero_grad()
        assert_step_as_eager(step, eager, rows(torch.cat([first, first])))
        torch.testing.assert_close(model.calls, eager.calls)
    assert len(step.whole.placed) == 2


def test_a_step_with_its_optimizer_changes_parameters_once() -> None:
    eager = Mixture(hit)
    model = copy.deepcopy(eager)
    optimizers = [torch.optim.Adam(net.parameters(), 0.1) for net in (model, eager)]
    options: dict[str, Any] = {"topology": "local:2", "solver": "random", "fullgraph": True}
    step = tp.compile(model, loss_fn=F.mse_loss, optimizer=optimizers[0], **options)
    for first in INPUTS:
        step(rows(first), torch.ones(3, 4))
        optimizers[1].zero_grad()
        F.mse_loss(eager(rows(first)), torch.ones(3, 4)).backward()
        optimizers[1].step()
        for mine, theirs in zip(model.parameters(), eager.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_a_step_whose_micro_batches_differ_is_not_pipelined_and_others_are() -> None:
    eager = Mixture(masked)
    model = copy.deepcopy(eager)
    step = tp.compile(model, loss_fn=F.mse_loss, microbatches=2, topology="local:2", solver="random")

    def held(*first: Tensor) -> None:
        assert_step_as_eager(step, eager, torch.cat([rows(one) for one in first]))

    held(INPUTS[0], INPUTS[1])
    with pytest.warns(UserWarning, match=r"a step of .* not pipelined.*in one micro-batch than in another"):
        held(INPUTS[0], INPUTS[2])
    held(INPUTS[2], INPUTS[0])
    ran = len(step.whole.ran)
    held(INPUTS[0], INPUTS[3])
    assert (ran, len(step.whole.ran)) == (0, 1)
