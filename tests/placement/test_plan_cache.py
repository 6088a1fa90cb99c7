"""Kept plans: the same question is answered as before, any other anew, and nothing damaged is believed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torchplace as tp
from tests.placement.graphs import Table, machine
from torchplace.compiler.capture import Captured
from torchplace.compiler.dry import capture_dry
from torchplace.compiler.joint import capture_step
from torchplace.placement import plan_cache
from torchplace.placement.pipelining import Pipelining
from torchplace.placement.plan import Plan
from torchplace.placement.plan_cache import KEEP, planned
from torchplace.placement.planning import Request, make_plan

MACHINE = machine([1 << 20] * 3)
REQUEST = Request(MACHINE, solver="random", seed=3, cost=Table())


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def captured(rows: int = 3, training: bool = True, width: int = 8) -> Captured:
    model = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))
    return capture_dry(model, (torch.randn(rows, 4),), {}, training=training)[0]


@pytest.fixture(autouse=True)
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """What was searched since the test began."""
    found: list[Plan] = []

    def search(*args: Any) -> Plan:
        found.append(make_plan(*args))
        return found[-1]

    monkeypatch.setenv("TORCHPLACE_CACHE", str(tmp_path))
    monkeypatch.setenv(KEEP, "1")
    monkeypatch.setattr(plan_cache, "make_plan", search)
    return found


def files(directory: Path) -> list[Path]:
    return sorted((directory / "plans").glob("*"))


def test_the_same_question_is_not_searched_again(searched: list[Plan]) -> None:
    first, again = planned(captured(), REQUEST), planned(captured(), REQUEST)
    assert len(searched) == 1
    for name in ("placement", "predicted", "lower_bound", "bound", "solver", "solve_time", "parameters", "fingerprint"):
        assert getattr(again, name) == getattr(first, name), name
    assert [str(p) for p in again.programs] == [str(p) for p in first.programs]


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, topology=machine([1 << 20] * 4)),
        replace(REQUEST, topology=machine([1 << 20, 1 << 20, 1 << 21])),
        replace(REQUEST, solver="balanced"),
        replace(REQUEST, seed=4),
        replace(REQUEST, time_limit=3.0),
        replace(REQUEST, objective="throughput"),
        replace(REQUEST, pins={"0": "d1"}),
        replace(REQUEST, together=[["0", "2"]]),
        replace(REQUEST, forbid={"2": ["d0"]}),
        replace(REQUEST, cost=Table(default=2.0)),
        replace(REQUEST, workspace=lambda op, device: 64),
        replace(REQUEST, optimizer="adamw"),
    ],
)
def test_any_other_request_is(searched: list[Plan], other: Request) -> None:
    planned(captured(), REQUEST)
    planned(captured(), other)
    planned(captured(), other)
    assert len(searched) == 2


@pytest.mark.parametrize("other", [captured(rows=4), captured(training=False), captured(width=16)])
def test_any_other_graph_is(searched: list[Plan], other: Captured) -> None:
    planned(captured(), REQUEST)
    planned(other, REQUEST)
    assert len(searched) == 2


def test_a_step_is_asked_for_with_its_schedule(searched: list[Plan]) -> None:
    call = ((torch.randn(3, 4),), {}, (torch.randn(3, 2),))
    step = capture_step(net(), call, nn.functional.mse_loss, training=True)
    for pipelining in (Pipelining(2), Pipelining(3), Pipelining(3, "gpipe")):
        request = replace(REQUEST, pipelining=pipelining)
        first, again = planned(step, request), planned(step, request)
        assert (again.schedule, again.predicted) == (first.schedule, first.predicted)
    assert len(searched) == 3


@pytest.mark.parametrize("damage", ["", "{}", "shortened", "edited"])
def test_a_damaged_file_is_named_and_made_anew(tmp_path: Path, searched: list[Plan], damage: str) -> None:
    planned(captured(), REQUEST)
    [file] = files(tmp_path)
    text = file.read_text()
    file.write_text({"shortened": text[:-40], "edited": text.replace('"d0"', '"d1"')}.get(damage, damage))
    with pytest.warns(UserWarning, match=f"a kept plan is not used.*{file.name}"):
        planned(captured(), REQUEST)
    assert len(searched) == 2
    planned(captured(), REQUEST)
    assert len(searched) == 2


def test_where_nothing_can_be_written_nothing_is_kept(
    tmp_path: Path, searched: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCHPLACE_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        with pytest.warns(UserWarning, match="is not kept for other processes"):
            planned(captured(), REQUEST)
    assert len(searched) == 2


def test_it_can_be_turned_off(tmp_path: Path, searched: list[Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEEP, "0")
    planned(captured(), REQUEST)
    planned(captured(), REQUEST)
    assert not files(tmp_path)


def test_only_those_used_last_are_kept(tmp_path: Path, searched: list[Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_cache, "MOST", 2)
    graph = captured()
    for seed in range(4):
        planned(graph, replace(REQUEST, seed=seed))
    assert len(files(tmp_path)) == 2
    planned(graph, replace(REQUEST, seed=3))
    assert len(searched) == 4


def test_a_compiled_model_asks_for_what_was_kept(searched: list[Plan]) -> None:
    x = torch.randn(3, 4)
    for _ in range(2):
        torch.compiler.reset()
        model = tp.compile(net(), topology="local:2", solver="random")
        model(x)
        assert len(searched) == 1
    assert tp.plans(model)[0].placement == searched[0].placement
