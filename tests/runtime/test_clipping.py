"""The norm of all gradients, and their scale, over devices of one process: as torch has them."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torchplace as tp
from torchplace.errors import OptionError

X = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
Y = torch.arange(6) % 3


def steps() -> tuple[nn.Module, tp.Step, nn.Module]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=2, topology="local:2", solver="random", seed=1)
    return model, step, copy.deepcopy(model)


@pytest.mark.parametrize("kind", [1.0, 2.0, math.inf])
def test_clipping_is_that_of_torch(kind: float) -> None:
    model, step, eager = steps()
    step(X, Y)
    F.cross_entropy(eager(X), Y).backward()
    norm = tp.clip_grad_norm_(step, 0.01, kind)
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(eager.parameters(), 0.01, kind))
    for mine, theirs in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_a_norm_that_is_not_finite_is_an_error_if_it_is_to_be_one() -> None:
    model, step, _ = steps()
    step(X, Y)
    model[0].bias.grad[0] = math.nan
    with pytest.raises(RuntimeError, match="the norm of the gradients is nan; expected a finite one"):
        tp.clip_grad_norm_(step, 1.0, error_if_nonfinite=True)
    assert torch.isnan(tp.clip_grad_norm_(step, 1.0))


def test_a_step_of_a_function_has_no_parameters_to_clip() -> None:
    step = tp.compile(lambda x: x * 2, loss_fn=F.mse_loss, topology="local:1")
    with pytest.raises(OptionError, match="expected a step of a module"):
        tp.clip_grad_norm_(step, 1.0)


def test_a_scaler_does_what_torchs_does() -> None:
    model, step, eager = steps()
    scaler, theirs = tp.GradScaler(step, device="cpu", init_scale=64.0), torch.amp.GradScaler("cpu", init_scale=64.0)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, eager)]
    for i in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        step(X, Y, grad_scale=scaler.get_scale())
        theirs.scale(F.cross_entropy(eager(X), Y)).backward()
        if i == 1:
            for m in (model, eager):
                m[2].weight.grad[0, 0] = math.inf
        for s, optimizer in zip((scaler, theirs), optimizers, strict=True):
            s.step(optimizer)
            s.update()
        assert scaler.get_scale() == theirs.get_scale() == (64.0 if not i else 32.0)
    for mine, expected in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(mine, expected)
