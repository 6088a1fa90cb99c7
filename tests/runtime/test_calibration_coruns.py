"""How much two devices slow each other is read off branches side by side, beside the same in turn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torchplace.compiler.instructions import Instruction, Recv, Run
from torchplace.placement.timeline import Event, Timeline
from torchplace.runtime import calibration_coruns
from torchplace.runtime.calibration_coruns import slowdown, together


def timeline(*runs: tuple[str, float, float], waits: tuple[Event, ...] = ()) -> Timeline:
    made: list[tuple[Instruction, str, float, float]] = [
        (Run(f"s{i}", (), ()), device, start, end) for i, (device, start, end) in enumerate(runs)
    ]
    return Timeline([*(Event(device, what, start, end) for what, device, start, end in made), *waits])


IN_TURN = timeline(("cpu:0", 0.0, 6.0), ("cpu:1", 7.0, 13.0))


def test_what_ran_alone_counts_as_alone() -> None:
    """Alone 6 each; both from 2 to 8, before that and behind it one alone for 2: 6 seconds for what takes 4 alone."""
    beside = timeline(("cpu:0", 0.0, 8.0), ("cpu:1", 2.0, 10.0))
    assert together(beside, IN_TURN) == pytest.approx(1.5)
    assert together(timeline(("cpu:0", 0.0, 6.0), ("cpu:1", 0.0, 6.0)), IN_TURN) == pytest.approx(1.0)


def test_only_the_longest_run_of_each_device_counts() -> None:
    wait = Event("cpu:1", Recv("v", "cpu:0"), 0.0, 50.0)
    beside = timeline(("cpu:0", 0.0, 9.0), ("cpu:0", 9.0, 9.5), ("cpu:1", 0.0, 9.0), waits=(wait,))
    assert together(beside, IN_TURN) == pytest.approx(1.5)


def test_branches_that_hardly_met_say_nothing() -> None:
    assert together(timeline(("cpu:0", 0.0, 6.0), ("cpu:1", 5.0, 11.0)), IN_TURN) is None


@pytest.mark.usefixtures("one_thread")
def test_it_is_the_mean_over_sorts_of_layers_and_no_less_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    factors = iter([1.0, 1.2, 0.5, 0.6])
    monkeypatch.setattr(calibration_coruns, "_slowdown", lambda make, x: next(factors))
    layers = [(lambda: nn.Linear(4, 4), torch.randn(2, 4))] * 2
    monkeypatch.setattr(calibration_coruns, "_layers", lambda: iter(layers))
    assert slowdown() == pytest.approx(1.1)
    assert slowdown() == 1.0


def test_branches_run_side_by_side_and_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_coruns, "CALLS", 3)
    seen: list[tuple[bool, bool]] = []

    def note(beside: Timeline, in_turn: Timeline) -> None:
        long = [calibration_coruns._longest(t) for t in (beside, in_turn)]
        one, other = ([e.device for e in events] for events in long)
        assert one == other == ["cpu:0", "cpu:1"]
        seen.append((long[1][0].end <= long[1][1].start, len(beside.events) > 0))

    monkeypatch.setattr(calibration_coruns, "together", note)
    found = calibration_coruns._slowdown(lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU()), torch.randn(64, 64))
    assert found == 1.0, "nothing is known of branches that never met"
    assert seen == [(True, True)] * 3
