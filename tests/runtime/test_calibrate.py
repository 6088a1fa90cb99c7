"""What the host adds is read off synthetic programs: here, off timelines that are written by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import nn

from torchplace.compiler.instructions import Recv, Run, Send
from torchplace.placement.cost.store import CostStore
from torchplace.placement.timeline import Event, Timeline
from torchplace.placement.topology import Topology
from torchplace.placement.topology.figures import CpuFigures, read_figures
from torchplace.placement.topology.local import local_with, pair_threads
from torchplace.runtime import calibrate, calibration_coruns, calibration_programs, calibration_steps, op_times
from torchplace.runtime.calibration_programs import Cells, Ran, at_random, run
from torchplace.runtime.progress import Tell


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHPLACE_CACHE", str(tmp_path))


def ran(*events: Event, segments: dict[str, float]) -> Ran:
    return cast(Ran, SimpleNamespace(timelines=[Timeline(list(events))], segments=segments))


def run_of(segment: str) -> Run:
    return Run(segment, (), ("v",))


def test_hand_overs_are_taken_apart() -> None:
    """b waits from 1 on for what a sends from 10 to 12, and is awake at 20; the second value is there when it comes."""
    us = 1e-6
    found = calibrate._hand_over(
        [
            ran(
                Event("a", run_of("s"), 0.0, 9 * us),
                Event("b", Recv("v", "a"), 1 * us, 20 * us),
                Event("a", Send("v", "b"), 10 * us, 12 * us),
                Event("a", Send("w", "b"), 13 * us, 14 * us),
                Event("b", run_of("t"), 20 * us, 30 * us),
                Event("b", Recv("w", "a"), 31 * us, 33 * us),
                segments={},
            )
        ]
    )
    assert found == pytest.approx({"send": 2 * us, "receive": 3 * us, "wake": 1 * us, "transfer_latency": 8 * us})


def test_instructions_cost_what_is_beside_their_ops_where_nobody_else_computes() -> None:
    alone = ran(
        Event("a", run_of("s"), 0.0, 5.0),
        Event("a", run_of("t"), 6.0, 10.0),
        Event("a", run_of("u"), 10.0, 30.0),
        Event("b", run_of("w"), 11.0, 29.0),
        segments={"s": 5.0, "t": 3.0, "u": 4.0, "w": 1.0},
    )
    assert calibrate._instruction([alone]) == pytest.approx(2.0), "t: from 5 to 10, of which 3 are its op's"


def test_contention_is_what_predicts_programs_of_small_ops_best() -> None:
    mixed = run(Cells(16, 3), torch.randn(4, 16), CostStore(), at_random(1, 2))
    figures = CpuFigures(launch_overhead=1.0, contention=0.0, instruction=0.0)
    wanted = calibrate._CONTENTIONS[6]
    there = local_with(2, figures.model_copy(update={"contention": wanted}))
    duration = calibrate._simulated(mixed, there)
    assert duration > calibrate._simulated(mixed, local_with(2, figures)), "its devices hinder each other"
    as_if = Ran(
        mixed.topology, mixed.program, mixed.graph, mixed.cost, [Timeline([Event("a", run_of("s"), 0, duration)])]
    )
    assert calibrate._with_contention(figures, [as_if]).contention == pytest.approx(wanted, abs=0.5)


def test_a_calibration_is_made_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def fake(figures: CpuFigures, store: CostStore, told: Tell) -> CpuFigures:
        calls.append(store)
        told("halfway", 0.5)
        return figures.model_copy(update={"wake": 0.5})

    monkeypatch.setattr(calibrate, "calibrate", fake)
    monkeypatch.setattr(calibrate, "cpu_figures", lambda threads: read_figures(threads) or CpuFigures())
    assert calibrate.calibrated_figures().wake == calibrate.calibrated_figures().wake == 0.5
    assert len(calls) == 1
    assert Topology.local(2).host.wake == Topology.local(1).host.wake == 0.5
    known = read_figures(pair_threads())
    assert known is not None
    assert known.calibrated


@pytest.mark.slow
def test_this_machine_can_be_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, with fewer models, and each program fewer times, than for figures that are kept."""
    models, small = list(calibration_steps._models()), (lambda: nn.Linear(64, 64), torch.randn(64, 64))
    monkeypatch.setattr(calibration_steps, "_models", lambda: models[-2:])
    monkeypatch.setattr(calibration_steps, "_STEPS", 2)
    monkeypatch.setattr(calibration_coruns, "_models", lambda: iter([small]))
    monkeypatch.setattr(calibration_coruns, "_ROUNDS", 1)
    monkeypatch.setattr(op_times, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(op_times, "ROUNDS", 1)
    monkeypatch.setattr(calibration_programs, "CALLS", 4)
    shares: list[float] = []
    found = calibrate.calibrate(CpuFigures(), CostStore(), lambda what, share: shares.append(share))
    assert shares == sorted(shares)
    assert 0.0 <= shares[0] < shares[-1] <= 1.0
    assert found.instruction > 0
    assert found.send > 0
    assert found.slowdown >= 1
    assert max(found.call, found.argument) > 0
