"""What people do with their models goes on working when they are placed: each gives what eager gives."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import torchplace as tp
from tests.pairs import ROWS, close, mlp, pair, trained

pytestmark = pytest.mark.usefixtures("one_thread", "forgotten")


def test_hooks_that_come_later_are_heard_and_those_that_go_are_not() -> None:
    eager, placed = pair(mlp)
    close(placed(ROWS), eager(ROWS))
    handles = [m[0].register_forward_hook(lambda module, given, output: output * 2) for m in (eager, placed)]
    close(placed(ROWS), eager(ROWS))
    for handle in handles:
        handle.remove()
    close(placed(ROWS), eager(ROWS))
    assert torch._dynamo.config.skip_nnmodule_hook_guards, "others' compilations are left alone"


def test_old_hooks_of_the_backward_leave_a_model_to_eager_and_say_so() -> None:
    eager, placed = pair(mlp)
    seen: list[int] = []
    for i, model in enumerate((eager, placed)):
        model[2].register_backward_hook(lambda module, given, output, i=i: seen.append(i))
    with pytest.warns(UserWarning, match="something of 'Sequential' cannot be captured"):
        found = trained(placed, ROWS)
    for mine, theirs in zip(found, trained(eager, ROWS), strict=True):
        close(mine, theirs)
    assert sorted(seen) == [0, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, of such hooks
        placed(ROWS)  # it is said once


def test_a_graph_may_be_gone_through_again() -> None:
    _, placed = pair(mlp)
    placed(ROWS).sum().backward()
    output = placed(ROWS).sum()
    output.backward(retain_graph=True)
    once = [p.grad.clone() for p in placed.parameters()]
    output.backward()
    assert all(not torch.equal(p.grad, g) for p, g in zip(placed.parameters(), once, strict=True))


def test_a_second_derivative_is_an_error() -> None:
    _, placed = pair(mlp)
    x = ROWS.clone().requires_grad_()
    with pytest.raises(RuntimeError, match="double backward"):
        torch.autograd.grad(placed(x).square().sum(), x, create_graph=True)[0].sum().backward()


def test_another_dtype_frozen_parts_and_other_parts() -> None:
    eager, placed = pair(mlp)

    def both(change: Callable[[nn.Module], Any], x: torch.Tensor = ROWS) -> None:
        for model in (eager, placed):
            change(model)
        found, expected = trained(placed, x), trained(eager, x)
        assert [t is None for t in found] == [t is None for t in expected]
        for mine, theirs in zip(found, expected, strict=True):
            if mine is not None:
                close(mine, theirs)

    both(lambda model: model)
    both(lambda model: model.double(), ROWS.double())
    both(lambda model: model.float())
    both(lambda model: model[0].requires_grad_(False))
    both(lambda model: model.requires_grad_(True))

    def swap(model: nn.Module) -> None:
        torch.manual_seed(3)
        model[2] = nn.Linear(16, 5)

    both(swap)
    assert placed.state_dict().keys() == eager.state_dict().keys()


def test_copies_and_files() -> None:
    _, placed = pair(mlp)
    expected = placed(ROWS)
    close(copy.deepcopy(placed)(ROWS), expected)
    close(pickle.loads(pickle.dumps(placed))(ROWS), expected)
    file = io.BytesIO()
    torch.save(placed.state_dict(), file)
    file.seek(0)
    other = mlp()
    other.load_state_dict(torch.load(file))
    close(other(ROWS), expected)
    with torch.no_grad():
        other[0].weight.mul_(2)
    placed.load_state_dict(other.state_dict())
    close(placed(ROWS), other(ROWS))


def test_averages_of_a_model() -> None:
    eager, placed = pair(mlp)
    averages = [AveragedModel(m, multi_avg_fn=get_ema_multi_avg_fn(0.9)) for m in (eager, placed)]
    for model, average in zip((eager, placed), averages, strict=True):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(ROWS).square().mean().backward()
            optimizer.step()
            average.update_parameters(model)
    close(averages[1](ROWS), averages[0](ROWS))


@pytest.mark.parametrize("form", [{"foreach": True}, {"fused": True}, {"foreach": False}], ids=str)
def test_optimizers_and_clipping(form: dict[str, bool]) -> None:
    eager, placed = pair(mlp)
    for model in (eager, placed):
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, **form)
        for _ in range(3):
            optimizer.zero_grad()
            model(ROWS).square().mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
    for mine, theirs in zip(placed.parameters(), eager.parameters(), strict=True):
        close(mine, theirs)


def test_modes_of_torch_that_surround_a_call() -> None:
    eager, placed = pair(mlp)
    with torch.inference_mode():
        close(placed(ROWS), eager(ROWS))
    close(placed(ROWS), eager(ROWS))
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = placed(ROWS), eager(ROWS)
    assert found.dtype == expected.dtype == torch.bfloat16
    close(found, expected)
    with torch.no_grad():
        assert not placed(ROWS).requires_grad
    assert placed(ROWS).requires_grad


def test_other_parameters_for_one_call() -> None:
    eager, placed = pair(mlp)
    close(placed(ROWS), eager(ROWS))
    doubled = {name: p.detach() * 2 for name, p in eager.named_parameters()}
    call = torch.func.functional_call
    close(call(placed, doubled, (ROWS,)), call(eager, doubled, (ROWS,)))
    close(placed(ROWS), eager(ROWS))


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(6), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(4))


def test_layers_that_learn_their_width_at_the_first_call() -> None:
    eager, placed = pair(lazy)
    for _ in range(2):
        torch.manual_seed(1)
        expected = eager(ROWS)
        torch.manual_seed(1)
        close(placed(ROWS), expected)
    placed.load_state_dict(eager.state_dict())
    close(placed(ROWS), eager(ROWS))


@pytest.mark.parametrize("ask", ["plan", "step"])
def test_lazy_layers_without_sizes_are_not_planned(ask: str) -> None:
    model = lazy()
    step = tp.compile(model, loss_fn=lambda y: y.square().mean(), microbatches=2, topology="local:2")
    with pytest.raises(tp.CaptureError, match=r"0.weight and 7 more of its lazy layers have no sizes yet; call"):
        step(ROWS) if ask == "step" else tp.plan(model, (ROWS,), topology="local:2")
    with torch.no_grad():
        model(ROWS)
    assert step(ROWS) > 0
