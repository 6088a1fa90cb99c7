"""Steps as one graph: what micro-batches write is written in their order, where the caller has it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torchplace as tp
from tests.stepping import CLASSES, PLACED, WIDTH, Net, after_eager, batch, check, cut, eager_step, state, twins

pytestmark = pytest.mark.usefixtures("one_thread")


class Stateful(nn.Module):
    """Counts and averages in buffers, some of them replaced, and keeps what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(WIDTH, CLASSES)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("total", torch.ones(()))
        self.seen: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
        self.total = self.total * 0.5 + x.square().mean()
        self.seen = self.net(x - self.mean)
        return self.seen / self.total / self.count


@pytest.mark.parametrize("devices", [1, 3])
def test_buffers_and_attributes_are_those_of_the_last_microbatch(devices: int) -> None:
    model, reference = twins(Stateful())
    step = tp.compile(
        model, loss_fn=F.cross_entropy, microbatches=4, topology=f"local:{devices}", solver="random", seed=2
    )
    buffers = [id(b) for b in model.buffers()]
    for call in range(2):
        x, y = batch(8, seed=call)
        check(step, after_eager(reference, x, y, 4), x, y)
        assert model.seen is not None
        assert reference.seen is not None
        torch.testing.assert_close(model.seen, reference.seen.detach())
    assert [id(b) for b in model.buffers()] == buffers


def test_inputs_are_written_to_where_the_caller_has_them() -> None:
    class Writer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
            y.mul_(2).add_(x)
            return self.net(y)

    x, target = batch(6)
    ours, theirs = torch.ones(6, WIDTH), torch.ones(6, WIDTH)
    model, reference = twins(Writer().eval())
    loss = eager_step(reference, lambda m, s: F.cross_entropy(m(x[s], theirs[s]), target[s]), cut(6, 3))
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=3, **PLACED)
    check(step, {"loss": loss, **state(reference)}, x, ours, target)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("what", ["input", "buffer"])
def test_writing_in_place_what_gradients_go_through_is_refused(what: str) -> None:
    class Writer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()
            self.register_buffer("mean", torch.zeros(WIDTH))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
            if what == "buffer":
                self.mean.mul_(0.9).add_(self.net.first(x).mean(0))
                return self.net(x - self.mean)
            return self.net(y.mul_(2).add_(x))

    x, target = batch(6)
    step = tp.compile(Writer(), loss_fn=F.cross_entropy, microbatches=3, **PLACED)
    with pytest.raises(tp.CaptureError, match=f"{'y' if what == 'input' else 'mean'}' is written to in place"):
        step(x, torch.ones(6, WIDTH, requires_grad=True) * 3, target)
