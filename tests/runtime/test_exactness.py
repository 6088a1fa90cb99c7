"""Placed models give the captured program's results to the bit, and eager's within float32 rounding.

Every model is captured once for each mode and kind of shapes, and then runs under many plans (`tests/switchboard.py`).
By default a subset of the plans is taken that has every model, device count and solver, and many random seeds; all
combinations, and eval mode with gradients for every model, take about half an hour:

    TORCHPLACE_TEST_ALL=1 python -m pytest tests/runtime/test_exactness.py
"""

from __future__ import annotations

import copy
import gc
import os
from collections.abc import Iterator

import pytest
import torch
from torch import nn

import torchplace as tp
from tests.switchboard import Setting, Switchboard
from tests.zoo import ZOO, Entry, floating, loss
from torchplace.placement.solvers.registry import solver_names

ALL = bool(os.environ.get("TORCHPLACE_TEST_ALL"))
DEVICES = (1, 2, 3, 4)
SEARCHED = [name for name in solver_names() if name != "random"]
pytestmark = pytest.mark.usefixtures("one_thread")
GRADIENTS_IN_EVAL = ("unet",) if not ALL else tuple(entry.name for entry in ZOO)
"""Models with batch norm have another backward in eval mode; the others only another guard."""
ROUNDING = 1e-5
"""Relative error of a whole tensor, by its norm."""
NOISE = 1e-8
"""Size of a gradient, relative to the largest, below which it is zero but for rounding."""

Results = dict[str, torch.Tensor]


def settings(index: int) -> list[Setting]:
    """The plans that model number `index` runs under."""
    if ALL:
        seeds = [Setting(n, "random", seed) for n in DEVICES for seed in range(5)]
        return [Setting(n, solver) for n in DEVICES for solver in SEARCHED] + seeds
    searched = [SEARCHED[(2 * index + i) % len(SEARCHED)] for i in range(2)]
    counts = [DEVICES[(index + i) % len(DEVICES)] for i in range(2)]
    chosen = [Setting(n, solver) for n, solver in zip(counts, searched, strict=True)]
    return [*chosen, Setting(2 + 2 * (index % 2), "random", 3 * index)]


def run(entry: Entry, model: nn.Module, weights: Results) -> Results:
    """Two optimizer steps, a second batch size, and eval mode; everything that comes out, by name."""
    model.load_state_dict(weights)
    results: Results = {}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    model.train()
    for step in range(2):
        results.update(step_of(entry, model, 3, f"step {step}"))
        optimizer.step()
    results.update({f"after two steps, {n}": t.detach().clone() for n, t in model.state_dict().items()})
    results.update(step_of(entry, model, 5, "second batch size"))
    model.eval()
    with torch.no_grad():
        for batch in (3, 5):
            args, kwargs = entry.inputs(batch)
            outputs = floating(model(*args, **kwargs))
            results.update({f"eval of {batch}, output {i}": t.clone() for i, t in enumerate(outputs)})
    if entry.name in GRADIENTS_IN_EVAL:
        results.update(step_of(entry, model, 5, "eval with gradients"))
    return results


def step_of(entry: Entry, model: nn.Module, batch: int, what: str) -> Results:
    """Outputs, and the gradients of parameters and of floating-point inputs."""
    args, kwargs = entry.inputs(batch)
    inputs = [t.requires_grad_() for t in floating((args, kwargs))]
    model.zero_grad()
    outputs = model(*args, **kwargs)
    loss(outputs).backward()
    found = {f"{what}, output {i}": t.detach().clone() for i, t in enumerate(floating(outputs))}
    gradients = [*model.named_parameters(), *((f"input {i}", t) for i, t in enumerate(inputs))]
    return found | {f"{what}, gradient of {n}": p.grad.clone() for n, p in gradients if p.grad is not None}


def unequal(expected: Results, actual: Results) -> list[str]:
    """Names of the results that are not the same to the bit."""
    assert list(expected) == list(actual)
    return [name for name, tensor in expected.items() if not torch.equal(tensor, actual[name])]


def beyond_rounding(expected: Results, actual: Results) -> list[str]:
    """Results further from eager's than float32 rounding explains.

    By the norm of each tensor, so that zeros pass for nothing but zeros. A gradient that mathematics makes zero (of
    attention's key bias) is nothing but rounding: it may be another, as small beside the largest gradient.
    """
    assert list(expected) == list(actual)
    largest = max(float(t.norm()) for name, t in expected.items() if "gradient" in name)
    faults = []
    for name, tensor in expected.items():
        error, size = float((actual[name].double() - tensor.double()).norm()), float(tensor.double().norm())
        is_noise = "gradient" in name and size <= NOISE * largest
        if not error <= (NOISE * largest if is_noise else ROUNDING * size):
            faults.append(f"{name}: error {error:.2e} of {size:.2e}")
    return faults


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Dynamo keeps what it captured until it is told not to."""
    yield
    torch._dynamo.reset()
    gc.collect()


@pytest.mark.timeout(0 if ALL else 300)
@pytest.mark.parametrize("index", range(len(ZOO)), ids=[entry.name for entry in ZOO])
def test_every_plan_equals_one_device_to_the_bit_and_eager_within_rounding(index: int) -> None:
    entry = ZOO[index]
    model = entry.build()
    weights = copy.deepcopy(model.state_dict())
    eager = run(entry, model, weights)
    assert all(torch.isfinite(t).all() for t in eager.values())
    board = Switchboard(model)
    one_device = run(entry, model, weights)
    assert beyond_rounding(eager, one_device) == []
    for setting in settings(index):
        board.use(setting)
        assert unequal(one_device, run(entry, model, weights)) == [], f"{entry}: {setting}"


@pytest.mark.timeout(0 if ALL else 300)
@pytest.mark.parametrize("entry", ZOO if ALL else [e for e in ZOO if e.name == "unet"], ids=str)
def test_compiled_as_a_user_does_it(entry: Entry) -> None:
    """Later graphs are placed around the parameters that the first plan has settled."""
    model = entry.build()
    weights = copy.deepcopy(model.state_dict())
    placed = tp.compile(copy.deepcopy(model), topology="local:3", solver="random", seed=7)
    one_device = tp.compile(copy.deepcopy(model), topology=tp.Topology.local(1), solver="single")
    actual = run(entry, placed, weights)
    assert unequal(run(entry, one_device, weights), actual) == []
    assert beyond_rounding(run(entry, model, weights), actual) == []
    assert any(len(plan.devices_used) == 3 for plan in tp.plans(placed))


def test_the_default_plans_have_every_device_count_and_solver() -> None:
    chosen = [setting for index in range(len(ZOO)) for setting in settings(index)]
    assert {setting.devices for setting in chosen} == set(DEVICES)
    assert {setting.solver for setting in chosen} == set(solver_names())
    assert len({setting.seed for setting in chosen if setting.solver == "random"}) > 4
    assert all(
        setting.solver == "random" and setting.devices > 1 for i in range(len(ZOO)) for setting in settings(i)[-1:]
    )


def test_the_comparisons_can_fail() -> None:
    good = {"output": torch.tensor([1.0, 2.0]), "gradient of a": torch.tensor([3.0]), "gradient of b": torch.zeros(2)}
    assert beyond_rounding(good, good) == []
    assert unequal(good, {**good, "output": torch.tensor([1.0, 2.0000002])}) == ["output"]
    assert beyond_rounding(good, {**good, "output": torch.tensor([1.0, 2.0000002])}) == []
    for name, wrong in (("output", [1.0, 2.001]), ("gradient of a", [0.0]), ("gradient of b", [0.0, 1e-4])):
        assert len(beyond_rounding(good, {**good, name: torch.tensor(wrong)})) == 1
