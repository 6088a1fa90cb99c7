"""Plans whose segments Inductor compiles are predicted by what these take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torchplace as tp
from torchplace.placement.cost.store import CostStore
from torchplace.placement.plan import Plan
from torchplace.placement.topology.figures import CpuFigures, write_figures
from torchplace.placement.topology.local import pair_threads
from torchplace.runtime import compiled_times, op_times

TOPOLOGY = "local:2"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHPLACE_CACHE", str(tmp_path))
    for module in (op_times, compiled_times):
        monkeypatch.setattr(module, "LEAST_SECONDS", 0.0)
        monkeypatch.setattr(module, "ROUNDS", 1)
    write_figures(pair_threads(), CpuFigures(calibrated=True))


class Net(nn.Module):
    """With a buffer that is written, a table that is looked up, and something for Inductor to fuse."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm, self.first, self.last = (
            nn.Embedding(9, 8),
            nn.BatchNorm1d(8),
            nn.Linear(8, 8),
            nn.Linear(8, 5),
        )

    def forward(self, x: torch.Tensor) -> Any:
        return self.last(F.gelu(self.first(self.norm(self.table(x)))).sin().exp())


def plan_of(model: nn.Module, **options: Any) -> Plan:
    options = {"topology": TOPOLOGY, "solver": "random", "cost": "measured", "codegen": "inductor", **options}
    return tp.plan(model, (torch.arange(6),), **options)


def nothing_is_timed(*_: Any) -> None:
    raise AssertionError("timed again")


def test_segments_take_what_was_measured_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(Net(), training=True)
    eager = plan_of(Net(), training=True, codegen="eager")
    assert plan.placement == eager.placement
    assert plan.predicted.step_time != eager.predicted.step_time
    monkeypatch.setattr(compiled_times._Programs, "seconds", nothing_is_timed)
    again = plan_of(Net(), training=True)
    assert again.predicted == plan.predicted, "the store of costs knows"


def test_predictions_follow_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    before, store = plan_of(Net()), CostStore()
    for device in store.devices():
        store.write_segments(device, dict.fromkeys(store.segments(device), 7.0))
    after = plan_of(Net())
    segments = len(after.programs[0].segments)
    assert before.predicted.step_time < 7.0 < after.predicted.step_time
    assert sum(after.predicted.busy.values()) == pytest.approx(7.0 * segments, rel=0.1), "co-running aside"


def test_nothing_of_the_caller_changes() -> None:
    model = Net()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    plan_of(model, training=True)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_step_is_planned_by_it_and_right() -> None:
    losses = []
    for codegen in ("eager", "inductor"):
        torch.manual_seed(0)
        model = Net()
        options = {"loss_fn": F.cross_entropy, "microbatches": 2, "topology": TOPOLOGY, "solver": "random"}
        step = tp.compile(model, **options, codegen=codegen, cost="measured")
        losses.append(step(torch.arange(8), torch.arange(8) % 5).item())
        assert tp.plans(step)[0].predicted.step_time > 0
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_validation_runs_what_was_planned() -> None:
    found = plan_of(Net(), training=True).validate(steps=1)
    assert found.step_time.measured > 0
