"""The option `cost`: which costs a plan is made with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import torchplace as tp
from torchplace.compiler.capture import Captured
from torchplace.compiler.dry import capture_dry
from torchplace.errors import CostError
from torchplace.placement.planning import Request
from torchplace.placement.topology import Topology
from torchplace.placement.topology.figures import CpuFigures, write_figures
from torchplace.placement.topology.local import pair_threads
from torchplace.runtime import calibration_set, op_times
from torchplace.runtime.pricing import priced
from torchplace.runtime.progress import nobody


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHPLACE_CACHE", str(tmp_path))
    monkeypatch.setattr(op_times, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(op_times, "ROUNDS", 1)
    # As if this machine had been calibrated, which takes a minute; `test_calibrate.py` does it.
    write_figures(pair_threads(), CpuFigures(calibrated=True))


@pytest.fixture
def captured() -> Captured:
    return capture_dry(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), (torch.randn(4, 8),), {}, training=False)[0]


def test_auto_takes_what_was_measured_when_it_is_all_there(captured: Captured) -> None:
    topology = Topology.local(2)
    assert priced(Request(topology, source="auto"), captured).cost.name == "roofline"
    measured = priced(Request(topology, source="measured"), captured).cost
    assert measured.name == "measured"
    again = priced(Request(topology, source="auto"), captured).cost
    assert again.name == "measured"
    device = topology.used(topology.device_names).devices[0]
    assert [again.time(op, device) for op in captured.graph.ops] == [
        measured.time(op, device) for op in captured.graph.ops
    ]


def test_what_was_never_measured_on_a_machine_that_is_not_here_is_an_error(captured: Captured) -> None:
    with pytest.raises(CostError, match=r"'aten\..*never timed on 'm40' \(device 'gpu:0'\).*cost='roofline'"):
        priced(Request(Topology.preset("big-sur"), source="measured"), captured)


def test_a_plan_names_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    small = tuple(entry for entry in calibration_set.CALIBRATION if entry.name == "losses")
    monkeypatch.setattr(calibration_set.fill_store, "__kwdefaults__", {"on_progress": nobody, "entries": small})
    model, x = nn.Linear(8, 8), torch.randn(4, 8)
    found = {cost: tp.plan(model, x, topology=tp.Topology.local(2), cost=cost) for cost in ("roofline", "fitted")}
    assert {cost: plan.cost for cost, plan in found.items()} == {"roofline": "roofline", "fitted": "fitted"}
    assert "fitted" in str(found["fitted"])
