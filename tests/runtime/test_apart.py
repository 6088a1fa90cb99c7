"""Steps of models that are no single graph: as eager does it, micro-batch by micro-batch, and said so."""

from __future__ import annotations

import copy
import time
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torchplace as tp

ROWS, WIDTH, CLASSES = 8, 8, 3
PLACED: dict[str, Any] = {"topology": "local:2", "solver": "random"}
pytestmark = pytest.mark.usefixtures("forgotten")


class Pausing(nn.Module):
    """Does what is no part of a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.norm(self.first(x))
        time.sleep(0)
        return self.last(x.tanh())


def twins() -> tuple[Pausing, Pausing]:
    torch.manual_seed(0)
    model = Pausing()
    return model, copy.deepcopy(model)


def batch(rows: int = ROWS) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, WIDTH), torch.randint(CLASSES, (rows,))


def eager_step(model: nn.Module, x: torch.Tensor, y: torch.Tensor, microbatches: int) -> torch.Tensor:
    total = torch.zeros(())
    for some, wanted in zip(x.chunk(microbatches), y.chunk(microbatches), strict=True):
        loss = F.cross_entropy(model(some), wanted) * (len(some) / len(x))
        loss.backward()
        total += loss.detach()
    return total


def test_a_step_does_what_eager_does_and_says_that_it_is_not_pipelined() -> None:
    model, reference = twins()
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=3, **PLACED)
    x, y = batch()
    with pytest.warns(UserWarning, match=r"step of 'Pausing' is not pipelined.*sleep.*test_apart\.py"):
        loss, outputs = step(x, y, return_outputs=True)
    torch.testing.assert_close(loss, eager_step(reference, x, y, 3))
    assert outputs.shape == (ROWS, CLASSES)
    assert not outputs.requires_grad
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(x, y)
    eager_step(reference, x, y, 3)
    for (name, mine), theirs in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, msg=name)
    for (name, mine), theirs in zip(model.named_buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)
    assert any(plan.broken for plan in tp.plans(step))
    assert step.timeline.events, "of what ran last"


def test_gradients_go_on_to_where_inputs_come_from() -> None:
    model, reference = twins()
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=2, **PLACED)
    x, y = batch(6)
    ours, theirs = (torch.ones(WIDTH, requires_grad=True) for _ in range(2))
    with pytest.warns(UserWarning, match="not pipelined"):
        step(x * ours, y, grad_scale=2.0)
    whole = x * theirs
    for part in (slice(0, 3), slice(3, 6)):
        (2.0 * F.cross_entropy(reference(whole[part]), y[part]) / 2).backward(retain_graph=True)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_an_optimizer_and_inference() -> None:
    model, reference = twins()
    optimizer, other = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, reference))
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=2, optimizer=optimizer, **PLACED)
    x, y = batch(6)
    with pytest.warns(UserWarning, match="not pipelined"):
        step(x, y)
    eager_step(reference, x, y, 2)
    other.step()
    torch.testing.assert_close(model.first.weight, reference.first.weight)
    assert model.first.weight.grad is None
    infer = tp.compile(model.eval(), microbatches=2, **PLACED)
    with torch.no_grad(), pytest.warns(UserWarning, match="not pipelined"):
        torch.testing.assert_close(infer(x), reference.eval()(x))


def test_a_model_that_makes_something_in_its_first_call_is_pipelined_from_then_on() -> None:
    class Making(nn.Linear):
        def __init__(self) -> None:
            super().__init__(WIDTH, CLASSES)
            self.made: nn.Module | None = None

        def forward(self, x: torch.Tensor) -> Any:
            if self.made is None:
                self.made = nn.LayerNorm(CLASSES)
                torch._dynamo.graph_break()
            return self.made(super().forward(x))

    model = Making()
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=2, **PLACED)
    x, y = batch(6)
    with pytest.warns(UserWarning, match="not pipelined"):
        first = step(x, y)
    again = step(x, y)
    torch.testing.assert_close(first, again)
    assert step.timeline.events
    assert tp.plans(step)[-1].microbatches == 2


def test_a_buffer_that_grows() -> None:
    class Growing(nn.Linear):
        def __init__(self) -> None:
            super().__init__(WIDTH, CLASSES)
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen = torch.cat([self.seen, x.detach()[0]])
            return super().forward(x)

    model = Growing()
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=2, **PLACED)
    x, y = batch(6)
    with pytest.warns(UserWarning, match="not pipelined.*buffer 'seen' of Growing is replaced"):
        step(x, y)
    assert torch.equal(model.seen, torch.cat([torch.zeros(1), x[0], x[3]]))


def test_what_fails_in_eager_too_is_told_as_ever() -> None:
    step = tp.compile(Pausing(), loss_fn=F.cross_entropy, microbatches=2, **PLACED)
    with pytest.raises(tp.CaptureError, match="linear of tensors of sizes"):
        step(torch.randn(4, WIDTH + 1), torch.zeros(4, dtype=torch.long))
