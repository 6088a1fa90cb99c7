"""Plans that are run here and held against their predictions; the caller's model stays what it was."""

from __future__ import annotations

import gc
import json
import random
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import torchplace as tp
from tests import simulated
from torchplace.errors import OptionError, PlanError
from torchplace.placement.report.alignment import BESIDE
from torchplace.placement.report.validation import PATH, Validation

X = torch.ones(8, 16)
HERE = {"topology": "local:2", "solver": "round-robin"}


class Net(nn.Module):
    """Batch norm writes to its buffers; dropout and the forward draw random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Linear(16, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, 16] -> [rows, 4]."""
        return self.last(self.drop(torch.relu(self.norm(self.first(x)))))


@pytest.fixture(scope="module")
def trained() -> tuple[Net, tp.Plan, Validation]:
    torch.manual_seed(0)
    model = Net()
    plan = tp.plan(model, (X,), training=True, **HERE)
    return model, plan, plan.validate(steps=2)


def test_every_instruction_that_keeps_a_device_is_lined_up(trained: tuple[Net, tp.Plan, Validation]) -> None:
    _, plan, found = trained
    kept = [f"{d} {i}" for program in plan.programs for d, i in program if str(i).split()[0] not in ("free", "recv")]
    assert sorted(f"{one.device} {one.instruction}" for one in found.instructions) == sorted(kept)
    assert all(one.measured is not None or str(one.instruction).startswith("send") for one in found.instructions)
    assert all((one.measured or 0) >= 0 and one.predicted >= 0 for one in found.instructions)


def test_a_step_is_predicted_as_the_plan_says_and_measured(trained: tuple[Net, tp.Plan, Validation]) -> None:
    _, plan, found = trained
    assert found.step_time.predicted == pytest.approx(plan.predicted.step_time)
    assert found.step_time.measured in found.steps
    assert found.error == pytest.approx(plan.predicted.step_time / found.step_time.measured - 1)
    assert len(found.steps) == 2
    assert len(found.references) == 3
    assert found.notes == ()


def test_all_time_is_somewhere(trained: tuple[Net, tp.Plan, Validation]) -> None:
    _, _, found = trained
    assert found.splits.keys() == {"cpu:0", "cpu:1", PATH}
    for predicted, measured in found.splits.values():
        assert predicted.total == pytest.approx(found.step_time.predicted)
        assert measured.total == pytest.approx(found.step_time.measured)
        assert min(measured.compute, measured.transfer, measured.waiting, measured.host) >= 0


def test_families_share_what_segments_take(trained: tuple[Net, tp.Plan, Validation]) -> None:
    _, plan, found = trained
    names = {row.name for row in found.families}
    assert {"aten.addmm", "aten.native_batch_norm_backward", BESIDE} <= names
    runs = [one for one in found.instructions if not str(one.instruction).startswith("send")]
    assert sum(row.time.measured for row in found.families) == pytest.approx(sum(one.measured or 0 for one in runs))
    assert sum(row.time.predicted for row in found.families) == pytest.approx(sum(one.predicted for one in runs))
    assert sum(row.count for row in found.families) == sum(
        len(s.ops) for program in plan.programs for s in program.segments.values()
    ) + sum(str(one.instruction).startswith("update") for one in runs)


def test_it_prints_and_is_json(trained: tuple[Net, tp.Plan, Validation]) -> None:
    _, plan, found = trained
    for word in ("Net on local", "critical path", "the furthest off"):
        assert word in str(found)
    assert any(op in str(found) for op in plan.placement), "which ones are the furthest off is this machine's affair"
    assert json.loads(json.dumps(found.to_dict()))["topology"] == "local"


def test_the_callers_model_stays_what_it_was() -> None:
    model = Net()
    x = X.clone().requires_grad_()
    model(x).sum().backward()
    plan = tp.plan(model, (x,), training=True, **HERE)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = [p.grad.clone() for p in (*model.parameters(), x) if p.grad is not None]
    generators = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    plan.validate(steps=1)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    now = [p.grad for p in (*model.parameters(), x) if p.grad is not None]
    assert all(torch.equal(one, other) for one, other in zip(now, gradients, strict=True))
    assert random.getstate() == generators[0]
    assert np.array_equal(np.random.get_state()[1], generators[1])
    assert torch.equal(torch.get_rng_state(), generators[2])
    assert model.training
    assert model._compiled_call_impl is None
    with pytest.raises(OptionError, match="is not compiled"):
        tp.plans(model)


def test_in_eval_mode_and_without_a_backward() -> None:
    found = tp.plan(Net().eval(), (X,), **HERE).validate(steps=1)
    assert not found.training
    assert "(forward)" in str(found)
    assert "backward" not in str(found)


def test_a_function() -> None:
    weight = torch.ones(16, 16)
    found = tp.plan(lambda x: torch.relu(x @ weight) + 1, X, **HERE).validate(steps=1)
    assert {one.device for one in found.instructions} == {"cpu:0", "cpu:1"}


def test_a_model_in_pieces() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            torch._dynamo.graph_break()
            return self.b(y)

    plan = tp.plan(Broken(), (X,), **HERE)
    found = plan.validate(steps=1)
    assert len(found.ran) == 2
    assert found.step_time.predicted == pytest.approx(
        plan.predicted.step_time + sum(p.predicted.step_time for p in plan.rest)
    )


def test_a_plan_from_a_file_is_given_its_model(tmp_path: Path) -> None:
    model = Net().eval()
    tp.plan(model, (X,), **HERE).save(tmp_path / "plan.json")
    plan = tp.Plan.load(tmp_path / "plan.json")
    with pytest.raises(PlanError, match=r"no model to run; pass one and its arguments: plan\.validate\(model, args\)"):
        plan.validate()
    assert plan.validate(model, X, steps=1).step_time.measured > 0
    with pytest.raises(PlanError, match="made for another graph"):
        plan.validate(nn.Linear(16, 4).eval(), X, steps=1)


def test_a_plan_for_a_machine_that_is_not_here() -> None:
    plan = tp.plan(Net().eval(), (X,), topology="big-sur", solver="round-robin")
    with pytest.raises(
        PlanError, match=r"'big-sur', whose device 'gpu:0' \(cuda:0\) is not on this machine.*rehearse=True"
    ):
        plan.validate()
    found = plan.validate(steps=1, rehearse=True)
    assert found.notes == ("rehearsed: what was measured is this machine's CPU, what was predicted is not",)


def test_a_model_that_is_not_real() -> None:
    with torch.device("meta"):
        model, x = Net().eval(), torch.empty(8, 16)
    plan = tp.plan(model, (x,), **HERE)
    with pytest.raises(PlanError, match="meta device, where nothing runs; pass real ones"):
        plan.validate()
    assert plan.validate(Net().eval(), (X,), steps=1).step_time.measured > 0


class _Uncopied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.file = nn.Linear(16, 16), open(__file__)  # noqa: SIM115

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda plan: plan.validate(args=(X,)), PlanError, "given arguments and no model; pass both, or neither"),
        (lambda plan: plan.validate(steps=0), OptionError, "steps is 0; expected a whole number of 1 or more"),
        (lambda plan: plan.validate(_Uncopied(), X), PlanError, "_Uncopied cannot be copied.*tp.compile"),
    ],
)
def test_mistakes(trained: tuple, call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(trained[1])  # type: ignore[operator]


def test_a_compiled_model_does_not_keep_itself_alive() -> None:
    model = Net().eval()
    gone = weakref.ref(model)
    with torch.no_grad():
        tp.compile(model, plan=tp.plan(model, (X,), **HERE))(X)
    del model
    gc.collect()
    assert gone() is None


ON_ACCELERATORS = """
import torch
from tests import simulated
simulated.load()
import torchplace as tp
from tests import simulated
from tests.zoo import ZOO

entry = next(e for e in ZOO if e.name == "two-tower")
model = entry.build().to("sim:0").train()
args, kwargs = entry.inputs(3)
args = tuple(a.to("sim:0") for a in args)
state = {n: t.cpu().clone() for n, t in model.state_dict().items()}
devices = {n: t.device for n, t in model.state_dict().items()}
generators = [torch.sim.get_rng_state(i) for i in range(torch.accelerator.device_count())]
found = tp.plan(model, args, kwargs, topology="local:2", solver="balanced", training=True).validate(steps=1)
assert {"sim:0", "sim:1"} < found.splits.keys()
assert any("accelerators" in note for note in found.notes)
assert all(torch.equal(state[n], t.cpu()) and devices[n] == t.device for n, t in model.state_dict().items())
assert all(torch.equal(s, torch.sim.get_rng_state(i)) for i, s in enumerate(generators))
assert simulated.take_faults() == []
"""


@pytest.mark.skipif(simulated.compiler() is None, reason="the simulated device is C++: no compiler here")
def test_on_accelerators() -> None:
    command, root = [sys.executable, "-c", ON_ACCELERATORS], Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
