"""An optimizer that a step runs: on each device once its gradients are complete, and what that means for failures."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torchplace as tp
from torchplace.errors import ExecutionError

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
PINS = {"0": "cpu:0", "2": "cpu:1"}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))


def step_of(model: nn.Module, optimizer: torch.optim.Optimizer | None, **options: Any) -> Any:
    given = {"microbatches": 2, "topology": "local:2", "pins": PINS, "optimizer": optimizer, **options}
    return tp.compile(model, loss_fn=F.mse_loss, **given)


def test_each_device_updates_its_own_parameters_in_its_own_thread() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    threads: dict[int, str] = {}
    for i in (0, 2):
        for parameter in model[i].parameters():
            parameter.register_post_accumulate_grad_hook(
                lambda p, i=i: threads.setdefault(i, threading.current_thread().name)
            )
    step_of(model, optimizer)(X, X)
    assert threads[2] == "torchplace cpu:1"
    assert threads[0] != threads[2]


@pytest.mark.parametrize("rows", [8, 7])
def test_the_result_is_that_of_a_step_behind(rows: int) -> None:
    """Uneven micro-batches are two runs: parameters must not change between them."""
    inside, outside = net(), net()
    optimizers = [torch.optim.Adam(m.parameters(), lr=0.1) for m in (inside, outside)]
    steps = step_of(inside, optimizers[0], microbatches=4), step_of(outside, None, microbatches=4)
    x = X[:rows]
    for _ in range(3):
        losses = [step(x, x).item() for step in steps]
        optimizers[1].step()
        optimizers[1].zero_grad()
        assert losses[0] == losses[1]
    assert all(torch.equal(a, b) for a, b in zip(inside.parameters(), outside.parameters(), strict=True))


def test_gradients_that_the_callers_backward_adds_are_waited_for() -> None:
    """The first layer is used before the step, too: its gradient is complete only when the caller's part is done."""
    inside, outside = net(), net()
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (inside, outside)]
    steps = step_of(inside, optimizers[0]), step_of(outside, None)
    for model, step in zip((inside, outside), steps, strict=True):
        step(torch.tanh(model[0](X)), X)
    optimizers[1].step()
    assert all(torch.equal(a, b) for a, b in zip(inside.parameters(), outside.parameters(), strict=True))


def test_hooks_of_the_optimizer_see_all_gradients_once_a_step() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen: list[str] = []
    before = [p.detach().clone() for p in model.parameters()]

    def first(given: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        assert given is optimizer
        assert all(p.grad is not None for p in model.parameters())
        assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
        seen.append("before")

    optimizer.register_step_pre_hook(first)
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    step_of(model, optimizer)(X, X)
    assert seen == ["before", "after"]
    assert not any(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


@torch.library.custom_op("torchplace_tests::passes", mutates_args=())
def passes(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


@torch.library.custom_op("torchplace_tests::fails_late", mutates_args=())
def fails_late(x: torch.Tensor) -> torch.Tensor:
    CALLS.append(1)
    if len(CALLS) == 2:
        time.sleep(1.0)  # by now, the other device has done all that it has to do
        raise ValueError("no more")
    return x.clone()


CALLS: list[int] = []
passes.register_fake(torch.empty_like)
fails_late.register_fake(torch.empty_like)
passes.register_autograd(lambda ctx, gradient: fails_late(gradient))


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[2](passes(self.layers[1](self.layers[0](x))))


def test_a_step_that_fails_says_which_parameters_are_ahead() -> None:
    CALLS.clear()
    model = Failing()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    pins = {"layers.0": "cpu:0", "layers.1": "cpu:0", "*passes*": "cpu:0", "*fails_late*": "cpu:0", "layers.2": "cpu:1"}
    step = step_of(model, torch.optim.SGD(model.parameters(), lr=0.1), pins=pins)
    with pytest.raises(ExecutionError, match="no more; the optimizer has updated the parameters on cpu:1 before that"):
        step(X, X)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"layers.2.weight", "layers.2.bias"}


def test_an_optimizer_that_fails_is_named() -> None:
    model = net()

    class Fussy(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            if self.param_groups[0]["params"][0].device.type != "meta":  # where its state is looked at
                raise ValueError("not today")

    step = step_of(model, Fussy(model.parameters(), lr=0.1))
    with pytest.raises(ExecutionError, match=r"the optimizer's step of the parameters on cpu:\d failed.*not today"):
        step(X, X)
