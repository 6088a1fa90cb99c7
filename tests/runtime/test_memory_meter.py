"""The meter against memory that is known, and predictions against the meter: small models, to the byte or nearly so."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import torchplace as tp
from tests.zoo import ZOO
from torchplace import Topology
from torchplace.api import session_of
from torchplace.errors import ExecutionError
from torchplace.runtime.allocations import Allocation
from torchplace.runtime.isolated import GIVEN, RANGE
from torchplace.runtime.memory_meter import by_device, isolate, measure_memory

BY_NAME = {entry.name: entry for entry in ZOO}
FLOAT = 4


class Chain(nn.Module):
    """Two products, each output twice as wide; the second's device gets a copy of the first's output."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(100, 200))
        self.two = nn.Parameter(torch.ones(200, 400))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.one) @ self.two


def measured(model: nn.Module, args: tuple, kwargs: dict | None = None, *, training: bool, **options):
    compiled = tp.compile(copy.deepcopy(model).train(training), cost="roofline", **options)
    session = session_of(compiled)
    isolate(session)
    found = measure_memory(compiled, session, args, kwargs or {}, training=training)
    [plan] = tp.plans(compiled)
    return plan, {name: memory.peak for name, memory in found.items()}


def test_known_memory() -> None:
    x = torch.ones(50, 100)
    plan, peaks = measured(Chain(), (x,), training=False, topology="local:1")
    one, two, first, second = 100 * 200, 200 * 400, 50 * 200, 50 * 400
    expected = FLOAT * (x.numel() + one + two + first + second)
    assert peaks == plan.predicted.peak_memory == {"cpu:0": expected}


def test_known_memory_of_two_devices() -> None:
    x = torch.ones(50, 100)
    plan, peaks = measured(Chain(), (x,), training=False, topology="local:2", solver="round-robin")
    first, second = 50 * 200, 50 * 400
    expected = {"cpu:0": x.numel() + 100 * 200 + first, "cpu:1": 200 * 400 + first + second}
    assert peaks == plan.predicted.peak_memory == {device: FLOAT * n for device, n in expected.items()}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("name", "devices", "solver"),
    [
        ("gpt2", 1, "single"),
        ("gpt2", 3, "random"),
        ("t5", 2, "balanced"),
        ("vit", 2, "memory-balanced"),
        ("resnet50", 2, "balanced"),
        ("llama", 2, "random"),
        ("unet", 2, "balanced"),
        ("two-tower", 2, "heft"),
    ],
)
def test_predictions_hold(name: str, devices: int, solver: str, training: bool) -> None:
    args, kwargs = BY_NAME[name].inputs(4)
    model = BY_NAME[name].build()
    plan, peaks = measured(model, args, kwargs, training=training, topology=Topology.local(devices), solver=solver)
    for device, peak in peaks.items():
        # 3.4% where workspaces of convolutions are those of another maker's CPU than the estimate's.
        assert plan.predicted.peak_memory[device] == pytest.approx(peak, rel=0.05)


def test_the_state_of_an_optimizer_counts() -> None:
    model, x = Chain(), torch.ones(5, 100)
    found = {}
    for optimizer in (None, "adam"):
        compiled = tp.compile(copy.deepcopy(model), topology="local:2", solver="round-robin", optimizer=optimizer)
        session = session_of(compiled)
        isolate(session)
        real = torch.optim.Adam(compiled.parameters()) if optimizer else None
        memory = measure_memory(compiled, session, (x,), {}, training=True, optimizer=real)
        found[optimizer] = {name: device.peak for name, device in memory.items()}
        assert tp.plans(compiled)[0].predicted.peak_memory == found[optimizer]
    extra = {device: found["adam"][device] - found[None][device] for device in found[None]}
    assert extra == {"cpu:0": 2 * FLOAT * 20_000 + 4, "cpu:1": 2 * FLOAT * 80_000 + 4}, "two tensors and a step counter"


def happened(*events: tuple[str, int, int]) -> list[Allocation]:
    """(Device or "", address, bytes); bytes with a star in front are given."""
    return [
        Allocation(i, address, nbytes, ((RANGE + device, "aten::op") if device else ()))
        for i, (device, address, nbytes) in enumerate(events)
    ]


def test_memory_is_the_device_s_that_asked_for_it_till_anybody_gives_it_back() -> None:
    events = happened(("a", 1, 10), ("b", 2, 5), ("", 3, 1000), ("b", 1, -10), ("a", 4, 7), ("", 2, -5), ("b", 2, 3))
    found = by_device(events, ["a", "b", "c"])
    assert {name: memory.peak for name, memory in found.items()} == {"a": 10, "b": 5, "c": 0}
    assert found["a"].op == "aten::op"


def test_what_is_given_counts_once_on_each_device() -> None:
    gift = [Allocation(i, 0, 0, (f"{GIVEN}{device} 9 100",)) for i, device in enumerate("aab")]
    found = by_device([*gift, *happened(("", 9, -100), ("a", 9, 30))], ["a", "b"])
    assert {name: memory.peak for name, memory in found.items()} == {"a": 100, "b": 100}


def test_what_cannot_be_isolated() -> None:
    model = tp.compile(Chain(), topology="local:1", cost="roofline")
    with torch.no_grad():
        model(torch.ones(5, 100))
    with pytest.raises(ExecutionError, match="the model has been called already; isolate it before its first call"):
        isolate(session_of(model))
    session = session_of(tp.compile(Chain(), topology="local:2"))
    session.runtime.torch_devices["cpu:1"] = torch.device("meta")
    with pytest.raises(ExecutionError, match="device 'cpu:1' is meta; memory is measured on CPU devices only"):
        isolate(session)
