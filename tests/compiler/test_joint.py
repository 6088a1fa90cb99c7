"""Joint capture: one graph of forward, loss and backward, whatever checkpointing computes anew."""

from __future__ import annotations

import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.runtime.test_random_ops import Noisy
from tests.stepping import StepBoard
from torchplace.compiler.capture import Captured
from torchplace.compiler.graph import Graph

LOGGER = logging.getLogger(__name__)
X, Y = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), torch.arange(4)


class Blocks(nn.Module):
    def __init__(self, checkpointed: bool) -> None:
        super().__init__()
        self.checkpointed = checkpointed
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + (checkpoint(block, x, use_reentrant=False) if self.checkpointed else block(x))
        return x


def captured(model: nn.Module, loss_fn: object = F.cross_entropy, *args: torch.Tensor) -> Captured:
    board = StepBoard(model, loss_fn=loss_fn)
    board.step(*(args or (X, Y)))
    [found] = board.captured
    return found


def test_a_step_is_one_graph_whose_first_output_is_the_loss() -> None:
    found = captured(Blocks(False))
    assert (found.parts, found.joint, found.training) == ((found.graph,), True, True)
    assert [o.kind for o in found.graph.outputs].count("output") == 1
    assert sorted(o.path for o in found.graph.outputs if o.value is not None and o.kind == "gradient") == sorted(
        name for name, _ in Blocks(False).named_parameters()
    )
    assert [v.kind for v in found.graph.inputs].count("tangent") == 1
    assert {op.phase for op in found.graph.ops} == {"forward", "backward", "weight-grad"}


def test_modules_are_called_by_their_paths_in_the_model() -> None:
    assert {op.module for op in captured(Blocks(False)).graph.ops} >= {"blocks.0.0", "blocks.0.1", "blocks.1.2"}


def test_nothing_of_a_call_stays_in_what_was_captured() -> None:
    assert captured(Blocks(False)).examples == {}


def test_without_gradients_there_is_no_backward() -> None:
    with torch.no_grad():
        found = captured(Blocks(False))
    assert not found.training
    assert {op.phase for op in found.graph.ops} == {"forward"}


def again(graph: Graph) -> list[str]:
    return [op.name for op in graph.ops if op.name.endswith("_again")]


def test_checkpointed_blocks_are_computed_anew_in_the_backward() -> None:
    assert again(captured(Blocks(False)).graph) == []
    graph = captured(Blocks(True)).graph
    graph.check()
    anew = [graph.op(name) for name in again(graph)]
    assert {"aten.gelu.default", "aten.addmm.default"} <= {op.target for op in anew}
    assert {op.phase for op in anew} == {"backward"}
    first = next(i for i, op in enumerate(graph.ops) if any(v.kind == "tangent" for v in op.inputs))
    assert all(graph.ops.index(op) > first for op in anew), "not before the backward starts"
    assert Graph.parse(str(graph)).fingerprint() == graph.fingerprint()


@pytest.mark.parametrize("microbatches", [1, 2])
def test_dropout_that_is_computed_anew_draws_what_it_drew(microbatches: int) -> None:
    torch.manual_seed(0)
    model = Noisy().double()
    board = StepBoard(model, loss_fn=lambda output: output.sum())
    board.step.splitter.microbatches = microbatches

    def value() -> float:
        torch.manual_seed(3)
        return float(board.step(torch.cat([X, X]).double()))

    value()
    model.zero_grad()
    value()
    slopes = [float(block[0].weight.grad[0, 0]) for block in model.blocks]
    for block, slope in zip(model.blocks, slopes, strict=True):
        ends = []
        for step in (1e-6, -1e-6):
            block[0].weight.data[0, 0] += step
            ends.append(value())
            block[0].weight.data[0, 0] -= step
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_gradients_begin_at_the_loss_alone() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.seen, self.number = nn.Linear(8, 8), X, X

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen = self.net(x)
            self.number = self.seen.sum()
            return self.seen * 2

    graph = captured(Keeps()).graph
    assert [v.kind for v in graph.inputs].count("tangent") == 1
    assert sum(op.target == "aten.zeros_like.default" for op in graph.ops) == 2
    graph.check()


def test_logging_does_not_break_the_graph() -> None:
    class Logs(Blocks):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            LOGGER.warning("hello")
            return super().forward(x)

    assert captured(Logs(False)).training
