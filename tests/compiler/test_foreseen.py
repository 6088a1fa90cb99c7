"""What follows from integers that a call was given is looked up: a graph for each finding, which gives what eager gives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
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
Way = Callable[["Net", torch.Tensor, torch.Tensor], torch.Tensor]


class Net(nn.Module):
    """Two layers, a buffer of integers, and something of them in its forward."""

    def __init__(self, forward: Way) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.way = nn.Linear(6, 6), nn.Linear(6, 6), forward
        self.register_buffer("left", torch.tensor(2))

    def forward(self, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        return self.way(self, x, given)


def masked(net: Net, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    return net.b(net.a(x)) if (given > 2).any() else net.a(x)  # layers of its own: no `torch.cond`


def counted(net: Net, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    return net.a(x) if int((given > 2).sum()) > 1 else net.b(x)


def repeated(net: Net, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.cat([net.a(x)] * n) for n in given.tolist()])


def looped(net: Net, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    for _ in range(int(given.max())):
        x = net.b(net.a(x)).tanh()
    return x


def found(net: Net, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    where = (given > 2).nonzero()
    return net.a(x) if where.shape[0] == 1 else net.b(x)


def padded(net: Net, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    return F.pad(net.a(x), (net.left, given.max()), mode="reflect")


def resized(net: Net, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    return F.interpolate(net.a(x)[None, None], size=(given.max() + 2, given.min() + 3), mode="bilinear")


def filled(net: Net, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    mask = (torch.arange(x.shape[0]) >= x.shape[0] - 1).logical_and(given.sum() > 6)
    return net.b(net.a(x)) if mask.any() else net.a(x) * 2


def written(net: Net, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    mask = given > 2
    mask[0] = False
    return net.b(net.a(x)) if mask.any() else net.a(x)


def widened(net: Net, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    before = given.sum()
    given |= 4
    return net.b(net.a(x)) * before if (given == 5).any() else net.a(x) * before


def dense(net: Net, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    rows = torch.cat([given, given[:1]])
    groups = int(rows.max()) + 1
    most = int(torch.zeros(groups, dtype=torch.long).scatter_add_(0, rows, torch.ones_like(rows)).max())
    gathered = x.new_zeros(groups * most + 1, 6).index_add(0, rows * most, net.a(x))[: groups * most]
    return net.b(gathered) if gathered.shape[0] == 8 else gathered.view(groups, most, 6)


def assert_equal(placed: nn.Module, eager: nn.Module, x: torch.Tensor, given: torch.Tensor) -> None:
    """Outputs and gradients."""
    for model in (placed, eager):
        model.zero_grad()
    results = [model(x, given.clone()) for model in (placed, eager)]
    torch.testing.assert_close(*results)
    for result in results:
        result.square().sum().backward()
    for mine, expected in zip(placed.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, expected.grad)


def pair(way: Way, **options: Any) -> tuple[nn.Module, nn.Module]:
    model = Net(way)
    return tp.compile(copy.deepcopy(model), topology="local:2", solver="random", **options), model


@pytest.mark.parametrize("way", [masked, counted, repeated, looped, found, padded, resized, filled, written, widened])
def test_it_is_captured_whole_and_again_for_what_decides_otherwise(way: Way) -> None:
    placed, eager = pair(way, fullgraph=True)
    for numbers in ([1, 2, 3], [1, 2, 3], [1, 1, 2], [3, 3, 3]):
        assert_equal(placed, eager, torch.randn(4, 6), torch.tensor(numbers))
    plans = tp.plans(placed)
    assert 1 < len(plans) <= 3
    assert all("test_foreseen.py" in " ".join(plan.found) for plan in plans)


@settings(max_examples=4, deadline=None)
@given(st.lists(st.lists(st.integers(1, 4), min_size=3, max_size=3), min_size=1, max_size=5))
def test_it_is_what_eager_does_for_any_numbers(calls: Sequence[list[int]]) -> None:
    torch.compiler.reset()
    placed, eager = pair(lambda net, x, given: masked(net, counted(net, repeated(net, x, given), given), given))
    for numbers in calls:
        assert_equal(placed, eager, torch.randn(4, 6), torch.tensor(numbers))


def test_other_sizes_are_one_more_graph() -> None:
    placed, eager = pair(filled, fullgraph=True)
    for rows in (4, 5, 6, 7):
        assert_equal(placed, eager, torch.randn(rows, 6), torch.tensor([3, 3, 3]))
    assert len(tp.plans(placed)) == 2


def test_a_comparison_makes_a_graph_for_each_side_not_for_each_number() -> None:
    placed, eager = pair(counted, fullgraph=True)
    for numbers in ([3, 3, 1], [3, 3, 3], [3, 1, 1], [1, 1, 1]):
        assert_equal(placed, eager, torch.randn(4, 6), torch.tensor(numbers))
    assert len(tp.plans(placed)) == 2


def test_a_line_that_finds_something_else_in_every_call_breaks_the_graph_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(foresight, "MOST", 2)
    placed, eager = pair(looped)
    for most in range(1, 5):
        assert_equal(placed, eager, torch.randn(4, 6), torch.tensor([most]))
    plans = tp.plans(placed)
    assert sum(not plan.broken for plan in plans[:2]) == 2
    assert any(plan.broken for plan in plans[2:])
    count = len(plans)
    assert_equal(placed, eager, torch.randn(4, 6), torch.tensor([2]))
    assert len(tp.plans(placed)) == count


def test_what_a_buffer_holds_is_found_in_every_call() -> None:
    placed, eager = pair(padded, fullgraph=True)
    for left in (1, 2, 1):
        placed.left.fill_(left)
        eager.left.fill_(left)
        assert_equal(placed, eager, torch.randn(4, 6), torch.tensor([1]))
    assert len(tp.plans(placed)) == 2


def test_a_number_that_is_known_late_is_known_in_all_of_the_graph() -> None:
    placed, eager = pair(dense, fullgraph=True)
    for numbers in ([1, 2, 0], [1, 2, 0], [1, 1, 2], [3, 3, 3]):
        assert_equal(placed, eager, torch.randn(4, 6), torch.tensor(numbers))
    assert len({plan.found for plan in tp.plans(placed)}) == 3
    assert all("finds" in " ".join(plan.found) for plan in tp.plans(placed))


def test_a_number_that_need_not_be_known_is_no_other_graph() -> None:
    def cut(net: Net, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        size = int(given.max())
        return torch.zeros(4 * size + 1).index_add_(0, given, net.a(x)[:1, 0])[: 4 * size]

    placed, eager = pair(cut, fullgraph=True)
    for number in (1, 3, 2):
        x, given = torch.randn(4, 6), torch.tensor([number])
        torch.testing.assert_close(placed(x, given), eager(x, given))
    assert not any(plan.found for plan in tp.plans(placed))


@pytest.mark.filterwarnings("ignore:.*cannot be captured")
def test_what_follows_from_activations_is_not_looked_up() -> None:
    placed, eager = pair(lambda net, x, given: net.b(net.a(x)) if net.a(x).sum() > 0 else net.a(x))
    for scale in (1.0, -1.0):
        assert_equal(placed, eager, torch.full((4, 6), scale), torch.tensor([1]))
    assert not any("finds" in found for plan in tp.plans(placed) for found in plan.found)


@pytest.mark.filterwarnings("ignore:.*no single graph")
@pytest.mark.parametrize("calls", [([3, 1, 3, 1], [1, 1, 1, 1]), ([1, 1, 3, 1], [3, 1, 3, 1])])
def test_micro_batches_of_a_step_are_one_graph_if_they_find_the_same(calls: Sequence[list[int]]) -> None:
    model = Net(masked)
    step = tp.compile(copy.deepcopy(model), loss_fn=F.mse_loss, microbatches=2, topology="local:2", solver="random")
    for numbers in calls:
        x, y, given = torch.randn(4, 6), torch.randn(4, 6), torch.tensor(numbers)
        loss = step(x, given, target=y)
        expected = [F.mse_loss(model(x[s], given[s]), y[s]) / 2 for s in (slice(0, 2), slice(2, 4))]
        for part in expected:
            part.backward()
        torch.testing.assert_close(loss, sum(expected).detach())
        for mine, wanted in zip(step.model.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, wanted.grad)
    assert len(step.whole.placed) == sum(numbers[:2] == numbers[2:] for numbers in calls)


@pytest.mark.filterwarnings("ignore:.*no single graph")
def test_what_a_buffer_holds_may_change_from_one_micro_batch_to_the_next() -> None:
    def alternating(net: Net, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        even = net.left % 2 == 0
        net.left += 1
        return net.b(net.a(x)) if even else net.a(x)

    model = Net(alternating)
    step = tp.compile(copy.deepcopy(model), loss_fn=F.mse_loss, microbatches=2, topology="local:2", solver="random")
    x, y = torch.randn(4, 6), torch.randn(4, 6)
    loss = step(x, torch.ones(4), target=y)
    expected = [F.mse_loss(model(x[s], torch.ones(2)), y[s]) / 2 for s in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(loss, sum(expected).detach())
