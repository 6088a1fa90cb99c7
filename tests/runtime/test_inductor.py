"""Segments that Inductor compiles give what eager gives; those that it cannot compile run op by op."""

from __future__ import annotations

import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torchplace as tp


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(12, 16), nn.LayerNorm(16)
        self.drop, self.last = nn.Dropout(0.5), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.drop(F.gelu(self.norm(self.first(x)))))


def step_of(codegen: str) -> tuple[nn.Module, float]:
    torch.manual_seed(0)
    model = Net()
    step = tp.compile(
        model, loss_fn=F.cross_entropy, microbatches=2, topology="local:2", solver="random", codegen=codegen
    )
    loss = step(torch.randn(8, 12), torch.randint(0, 5, (8,)))
    return model, loss.item()


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def test_a_compiled_step_is_what_eager_does() -> None:
    log, kept = logging.getLogger("torchplace.runtime.inductor"), Kept()
    log.addHandler(kept)
    log.setLevel(logging.INFO)
    try:
        compiled, loss = step_of("inductor")
    finally:
        log.removeHandler(kept)
        log.setLevel(logging.NOTSET)
    eager, expected = step_of("eager")
    assert loss == pytest.approx(expected, rel=1e-5)
    for mine, theirs in zip(compiled.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6)
    assert any("it draws random numbers" in said for said in kept.said), "dropout's own segment"
    assert not any("Error" in said for said in kept.said), kept.said


def test_another_codegen_is_named() -> None:
    with pytest.raises(tp.OptionError, match="codegen is 'fast'; this version knows 'eager', 'inductor'"):
        tp.compile(nn.Linear(2, 2), codegen="fast")
