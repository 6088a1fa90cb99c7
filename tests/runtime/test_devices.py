"""Every lowered program runs on devices that share no memory, and gives tensors of the strides that were captured."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch

from tests.fake_devices import run_on_fake_devices
from tests.zoo import ZOO, Entry
from torchplace import Topology
from torchplace.compiler.capture import Captured
from torchplace.compiler.dry import capture_dry
from torchplace.compiler.instructions import Send
from torchplace.compiler.program import Program
from torchplace.errors import ExecutionError
from torchplace.placement.cost.compute import Roofline
from torchplace.placement.evaluate import Evaluator
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.registry import get_solver

LIGHT = [entry for entry in ZOO if entry.name in ("vit", "unet", "two-tower")]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Dynamo keeps what it captured until it is told not to."""
    yield
    torch._dynamo.reset()
    gc.collect()


def programs(captured: Captured, topology: Topology, solver: str, seed: int) -> tuple[Program, ...]:
    problem = Problem.build(captured.graph, topology, Roofline(), training=captured.training)
    placement = get_solver(solver).solve(problem, seed=seed)
    return Evaluator(captured, topology, Roofline(), {}).programs(placement)


def check(entry: Entry, found: list[Captured]) -> None:
    """Lower each graph for 2 to 4 devices and run it on fake ones."""
    for captured in found:
        keys = captured.graph.keys()
        for devices, solver, seed in ((2, "balanced", 0), (3, "random", 1), (4, "random", 2)):
            topology = Topology.local(devices)
            for program, part in zip(programs(captured, topology, solver, seed), captured.parts, strict=True):
                faults = run_on_fake_devices(program, part, topology, keys)
                assert faults == [], f"{entry}, {solver} {seed} on {devices}"
                assert any(isinstance(i, Send) for _, i in program) or len(part.ops) < 2 * devices


@pytest.mark.parametrize("entry", ZOO, ids=str)
def test_training_programs_run_on_devices_that_share_no_memory(entry: Entry) -> None:
    args, kwargs = entry.inputs(3)
    check(entry, capture_dry(entry.build(), args, kwargs, training=True))


@pytest.mark.parametrize("entry", LIGHT, ids=str)
def test_inference_programs_run_on_devices_that_share_no_memory(entry: Entry) -> None:
    args, kwargs = entry.inputs(3)
    for model in (entry.build(), entry.build().eval()):
        check(entry, capture_dry(model, args, kwargs, training=False))


def test_symbolic_programs_run_on_devices_that_share_no_memory() -> None:
    entry = LIGHT[0]
    args, kwargs = entry.inputs(3)
    check(entry, capture_dry(entry.build(), args, kwargs, training=True, dynamic=True))


def test_a_missing_transfer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = LIGHT[-1]
    args, kwargs = entry.inputs(3)
    (captured,) = capture_dry(entry.build().eval(), args, kwargs, training=False)
    topology = Topology.local(2)
    (program,) = programs(captured, topology, "random", 0)
    assert run_on_fake_devices(program, captured.graph, topology, {}) == []
    monkeypatch.setattr("torchplace.runtime.accelerator.copy_to", lambda tensor, device: tensor)
    with pytest.raises(ExecutionError, match="on the same device"):
        run_on_fake_devices(program, captured.graph, topology, {})


def test_a_lost_stride_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    (captured,) = capture_dry(lambda x: (x.t() + 1).cos(), (torch.ones(3, 4),), {}, training=False)
    topology = Topology.local(2)
    _add, cos = (op.name for op in captured.graph.ops if not op.is_view)
    placement = {op.name: "cpu:0" for op in captured.graph.ops} | {cos: "cpu:1"}
    (program,) = Evaluator(captured, topology, Roofline(), {}).programs(placement)
    assert run_on_fake_devices(program, captured.graph, topology, {}) == []
    monkeypatch.setattr(
        "torchplace.runtime.accelerator.copy_to",
        lambda t, device: torch.ops.aten._to_copy.default(t, device=device, memory_format=torch.contiguous_format),
    )
    assert len(run_on_fake_devices(program, captured.graph, topology, {})) == 1
