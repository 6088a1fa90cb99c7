"""Which schedules a placement is tried with, and which one it gets."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.compiler.graphs import pipeline
from tests.stepping import StepBoard
from torchplace import Topology
from torchplace.compiler.capture import Captured
from torchplace.compiler.footprint import no_workspace
from torchplace.compiler.order import no_delay, unit_duration
from torchplace.compiler.program import Program
from torchplace.compiler.verify import verify
from torchplace.placement.cost.compute import Roofline
from torchplace.placement.evaluate import Evaluator, Outcome
from torchplace.placement.pipelining import AUTO, CHOICES, SYNTHESISED, Costs, Pipelining, pipelines

COSTS = Costs(unit_duration, no_delay, no_workspace)


def found(schedule: str, microbatches: int = 4, stages: int = 3) -> list[tuple[str, Program]]:
    graph, placement = pipeline(stages)
    held = {f"w{i}": f"gpu:{i}" for i in range(stages)}
    names = tuple(f"gpu:{i}" for i in range(stages))
    return list(pipelines(graph, placement, names, held, Pipelining(microbatches, schedule), COSTS))


@pytest.mark.parametrize("schedule", CHOICES[1:])
def test_a_schedule_by_name_is_that_alone(schedule: str) -> None:
    assert {name for name, _ in found(schedule)} == {schedule}


def test_auto_tries_all_that_differ() -> None:
    programs = found(AUTO)
    assert {name for name, _ in programs} <= set(CHOICES[1:])
    assert {"gpipe", "1f1b", "zero-bubble"} <= {name for name, _ in programs}
    texts = [str(program) for _, program in programs]
    assert len(set(texts)) == len(texts), "interleaved with a single visit is 1f1b, and is not tried again"
    for _, program in programs:
        verify(program)
        assert program.microbatches == 4


def test_on_one_device_only_the_order_of_passes_differs() -> None:
    assert 1 < len(found(AUTO, stages=1)) <= len(CHOICES)


@functools.cache
def captured() -> Captured:
    torch.manual_seed(0)
    model = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(64, 64), nn.ReLU())))
    board = StepBoard(model, loss_fn=F.mse_loss)
    board.step(torch.randn(32, 64), torch.randn(32, 64))
    return board.captured[0]


def outcome(schedule: str, microbatches: int = 6, memory: int | None = None) -> Outcome:
    topology = Topology.local(2)
    if memory is not None:
        topology = replace(topology, devices=tuple(replace(d, memory=memory) for d in topology.devices))
    half = {"0", "1", "2", "3"}
    placement = {op.name: f"cpu:{int(op.module not in half)}" for op in captured().graph.ops}
    evaluator = Evaluator(captured(), topology, Roofline(), {}, pipelining=Pipelining(microbatches, schedule))
    return evaluator.outcome(placement)


def test_auto_is_the_quickest_as_well_as_predictions_tell() -> None:
    spans = {name: outcome(name).timeline.duration for name in CHOICES[1:]}
    best = outcome(AUTO)
    assert best.timeline.duration <= 1.005 * min(spans.values())
    assert spans[best.schedule] == pytest.approx(best.timeline.duration)


def test_auto_takes_what_fits_before_what_is_quick() -> None:
    peaks = {name: max(outcome(name).timeline.peak_memory.values()) for name in CHOICES[1:]}
    assert peaks["1f1b"] < peaks["gpipe"]
    limit = min(peaks.values())
    assert max(outcome(AUTO, memory=limit).timeline.peak_memory.values()) <= limit


def test_where_nothing_fits_the_one_that_lacks_least_is_told() -> None:
    def lacking(of: Outcome) -> int:
        return sum(max(0, peak - 1) for peak in of.timeline.peak_memory.values())

    least = min(lacking(outcome(name, memory=1)) for name in CHOICES[1:])
    assert lacking(outcome(AUTO, memory=1)) == least


def test_a_single_micro_batch_has_no_schedule() -> None:
    single = outcome(SYNTHESISED, microbatches=1)
    assert single.schedule == ""
    assert single.programs[0].microbatches == 1
