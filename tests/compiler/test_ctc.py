"""The CTC loss gives torch's own values and gradients, in every form, and breaks no graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torchplace as tp
from torchplace.compiler.ctc import ctc_loss

pytestmark = pytest.mark.usefixtures("forgotten")

STEPS, BATCH, CLASSES = 12, 3, 5
LENGTHS = torch.tensor([12, 10, 9]), torch.tensor([4, 2, 3])


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(STEPS, BATCH, CLASSES, generator=generator)
    return logits.requires_grad_(), torch.randint(1, CLASSES, (BATCH, 4), generator=generator)


def both(logits: torch.Tensor, *args: Any, **kwargs: Any) -> None:
    """Hold the loss and the gradient against torch's."""
    found = []
    for function in (ctc_loss, F.ctc_loss):
        loss = function(logits.log_softmax(-1), *args, **kwargs)
        finite = loss[torch.isfinite(loss)].sum()
        found.append((loss.detach(), *torch.autograd.grad(finite, logits)))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reductions(reduction: str) -> None:
    logits, targets = rows()
    both(logits, targets, *LENGTHS, reduction=reduction)


def test_targets_in_one_row_lengths_as_numbers_and_another_blank() -> None:
    logits, targets = rows()
    joined = torch.cat([row[:n] for row, n in zip(targets, LENGTHS[1].tolist(), strict=True)])
    both(logits, joined, *LENGTHS)
    both(logits, targets, tuple(LENGTHS[0].tolist()), tuple(LENGTHS[1].tolist()))
    both(logits, targets - 1, *LENGTHS, blank=CLASSES - 1)


def test_one_example_without_a_batch() -> None:
    logits, targets = rows()
    one = logits[:, 0].detach().requires_grad_()
    for reduction in ("mean", "none"):
        both(one, targets[0], torch.tensor(12), torch.tensor(4), reduction=reduction)


def test_losses_that_are_infinite() -> None:
    logits, targets = rows()
    short = torch.tensor([12, 1, 9]), LENGTHS[1]  # two words in one step
    assert torch.isinf(ctc_loss(logits.log_softmax(-1), targets, *short, reduction="none")).any()
    both(logits, targets, *short, zero_infinity=True)


class Spoken(nn.Module):
    """As models of speech have it: cuDNN's own loss is turned off, and targets are packed."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.head(self.body(x).relu()).log_softmax(-1).transpose(0, 1)
        kept = labels >= 0
        spans = torch.full((len(x),), x.shape[1]), kept.sum(-1)
        with torch.backends.cudnn.flags(enabled=False):
            loss = F.ctc_loss(logits, labels.masked_select(kept), *spans, zero_infinity=True)
        return {"loss": loss}


def test_a_model_is_captured_whole_and_trained_as_a_call_and_as_a_step() -> None:
    torch.manual_seed(0)
    eager = Spoken()
    x, labels = torch.randn(4, 9, 6), torch.tensor([[1, 2, 3], [2, -1, -1], [3, 4, -1], [1, 1, 2]])
    loss = eager(x, labels)["loss"]
    loss.backward()
    expected = [p.grad for p in eager.parameters()]
    model = Spoken()
    model.load_state_dict(eager.state_dict())
    placed = tp.compile(model, topology="local:2", solver="random", seed=1, cost="roofline")
    found = placed(x, labels)["loss"]
    found.backward()
    assert [plan.broken for plan in tp.plans(placed)] == [""]
    torch.testing.assert_close(found, loss)
    torch.testing.assert_close([p.grad for p in model.parameters()], expected)
    stepped = Spoken()
    stepped.load_state_dict(eager.state_dict())
    step = tp.compile(stepped, microbatches=2, topology="local:2", solver="random", seed=1, cost="roofline")
    torch.testing.assert_close(step(x, labels=labels), loss.detach())
    torch.testing.assert_close([p.grad for p in stepped.parameters()], expected)
