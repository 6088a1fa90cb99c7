"""Bugs that were: each test says what went wrong, and why."""

from __future__ import annotations

import copy
import gc
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torchplace as tp
from tests.compiler.graphs import Builder
from torchplace import Topology
from torchplace.compiler.dry import capture_dry
from torchplace.compiler.instructions import Run
from torchplace.placement.cost.compute import Roofline
from torchplace.placement.evaluate import Evaluator
from torchplace.runtime.kernels import make_kernel
from torchplace.runtime.local import LocalRuntime


def test_workers_record_no_autograd() -> None:
    """`_InferenceMode(False)` switched autograd on in workers: every op was recorded, and T5 failed under `no_grad`."""
    layer, x = nn.Linear(4, 4), torch.ones(2, 4)
    (captured,) = capture_dry(layer, (x,), {}, training=False)
    topology = Topology.local(2)
    placement = {op.name: f"cpu:{i % 2}" for i, op in enumerate(captured.graph.ops)}
    (program,) = Evaluator(captured, topology, Roofline(), {}).programs(placement)
    assert all(program.instructions.values())  # both devices work, in threads of their own
    given = [layer.get_parameter(v.path) if v.path else x for v in captured.graph.inputs]
    (result,) = LocalRuntime(topology).prepare(program, captured.graph)(given)
    assert not result.requires_grad


def test_threads_end_with_the_runtime_that_they_work_for() -> None:
    """Workers waited for jobs for ever, also when their runtime was gone: every compiled model left threads behind."""
    before = set(threading.enumerate())
    model = tp.compile(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)), topology="local:3", solver="random")
    model(torch.ones(2, 4)).sum().backward()
    started = [t for t in threading.enumerate() if t not in before and t.name.startswith("torchplace")]
    assert started
    del model
    torch._dynamo.reset()  # it keeps what it captured until it is told not to
    gc.collect()
    for thread in started:
        thread.join(timeout=30)
        assert not thread.is_alive()


class Lying(nn.Module):
    """Its graph, made without running kernels, has the gradient of softplus as contiguous, which it is not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 6), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[2, 4, 8] to [2, 6, 4]."""
        y: torch.Tensor = self.last(F.softplus(self.first(x)).transpose(1, 2))
        return y


class Strided(nn.Module):
    """Reads memory as it lies, behind a kernel that may lie otherwise."""

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """[4, 6] to [3, 4]."""
        return torch.where(x > 0, x * scale, x).as_strided((3, 4), (4, 1)) * 2


@pytest.mark.parametrize("devices", [1, 2])
def test_kernels_that_lay_out_their_results_otherwise_than_the_graph_says(devices: int) -> None:
    torch.manual_seed(0)
    reference, x = Lying(), torch.randn(2, 4, 8)
    placed = tp.compile(copy.deepcopy(reference), topology=f"local:{devices}", solver="random", cost="roofline")
    for model in (reference, placed):
        model(x).square().sum().backward()
    for expected, found in zip(reference.parameters(), placed.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)


def test_memory_is_read_as_the_graph_has_it() -> None:
    x, scale = torch.randn(6, 4).t(), torch.rand(4, 6)
    placed = tp.compile(Strided(), topology="local:2", solver="random", cost="roofline")
    assert torch.equal(placed(x, scale), Strided()(x, scale))
    b = Builder()
    b.op("aten.neg.default", b.input("x", 4, 6), shape=(4, 6), name="y")
    b.returns(b.op("aten.as_strided.default", b.graph.ops[0].outputs[0], [3, 4], [4, 1], shape=(3, 4)))
    run = Run("whole", ("x",), (b.graph.ops[-1].outputs[0].name,))
    kernel = make_kernel(b.graph, b.graph.ops, run, torch.device("cpu"), "cpu:0", b.graph.keys())
    (found,) = kernel([x], 0)
    assert torch.equal(found, (-x).contiguous().as_strided((3, 4), (4, 1)))


class Warped(nn.Module):
    """Its backward takes no symbols for sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.warp = nn.Parameter(torch.tensor([[1.0, 0.1, 0.0], [0.0, 0.9, 0.1]]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, channels, height, width] to the same."""
        grid = F.affine_grid(self.warp.expand(x.shape[0], 2, 3), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


def test_where_symbols_fail_each_size_is_captured_by_itself() -> None:
    """Another batch size made its dim a symbol; what takes none failed, though the first size had been captured."""
    reference = Warped()
    placed = tp.compile(copy.deepcopy(reference), topology="local:2", solver="random", cost="roofline")
    for rows in (2, 3, 4, 3):
        for model in (reference, placed):
            model.zero_grad()
            model(torch.linspace(0, 1, rows * 48).view(rows, 3, 4, 4)).square().sum().backward()
        torch.testing.assert_close(placed.warp.grad, reference.warp.grad)
    assert len(tp.plans(placed)) == 3


def test_what_fails_at_every_size_fails_with_the_sizes_that_it_was_given() -> None:
    placed = tp.compile(nn.Linear(4, 3), topology="local:2", cost="roofline")
    placed(torch.ones(2, 4))
    with pytest.raises(tp.CaptureError, match=r"sizes \(2, 5\)"):
        placed(torch.ones(2, 5))
    assert placed(torch.ones(3, 4)).shape == (3, 3)
    for rows in (4, 5, 6):
        placed(torch.ones(rows, 4))
    assert len(tp.plans(placed)) == 2, "a mistake does not end symbols: another size is no other capture"
