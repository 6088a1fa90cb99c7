"""How much two devices slow each other is read off training steps side by side, beside the same alone."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import nn

from torchplace.runtime import calibration_coruns
from torchplace.runtime.calibration_coruns import Pace, Round, Timed, beside, pace, timed


def test_a_pair_is_timed_alone_and_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_coruns, "reference_seconds", lambda: 0.5)
    alone, meeting = threading.current_thread(), threading.Barrier(2)

    def step() -> float:
        if threading.current_thread() is alone:
            return 1.0
        meeting.wait(timeout=60)  # for ever, if the other did not run at the same time
        return 1.5

    assert timed([step, step]) == Round(alone=4.0, beside=3.0, reference=0.5)


def test_of_three_steps_in_a_row_the_one_in_the_middle_counts() -> None:
    times = iter([9.0, 2.0, 8.0])
    assert beside([lambda: next(times)]) == [2.0]


def test_a_step_that_fails_beside_another_raises() -> None:
    def fail() -> float:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        beside([lambda: 1.0, fail])


@pytest.fixture
def two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small models instead of those that the machine is measured with, on two cores."""
    models = [(lambda: nn.Linear(4, 4), torch.randn(2, 4))] * 2
    monkeypatch.setattr(calibration_coruns, "_models", lambda: iter(models))
    monkeypatch.setattr(calibration_coruns, "cores", lambda: 2)


def paced(rounds: Iterator[Round], monkeypatch: pytest.MonkeyPatch) -> Pace:
    """What is made of rounds, of two models in turn."""
    monkeypatch.setattr(calibration_coruns, "_step", lambda model, x: lambda: 0.0)
    monkeypatch.setattr(calibration_coruns, "timed", lambda pair: next(rounds))
    return pace()


@pytest.mark.usefixtures("two_models")
@pytest.mark.parametrize(("factors", "expected"), [((1.0, 1.2), 1.1), ((0.5, 0.6), 1.0)])
def test_it_is_the_mean_over_models_and_no_less_than_one(
    factors: tuple[float, float], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = itertools.cycle(Round(alone=5.0, beside=5.0 * factor * 0.1, reference=0.1) for factor in factors)
    assert paced(rounds, monkeypatch) == pytest.approx((expected, 0.1))


@pytest.mark.usefixtures("two_models")
def test_a_core_that_is_quicker_at_times_while_the_other_idles_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every third round the reference workload takes 2/3 of its time, and so do steps alone."""
    usual, boosted = (Round(alone=5.0, beside=0.55, reference=reference) for reference in (0.1, 0.1 * 2 / 3))
    rounds = itertools.cycle([usual] * 4 + [boosted] * 2)
    assert paced(rounds, monkeypatch) == pytest.approx((1.1, 0.1))


@pytest.mark.usefixtures("two_models", "one_thread")
def test_models_train_whatever_the_call_that_asks_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def note(pair: Sequence[Timed]) -> Round:
        seen.extend(step() for step in pair)
        return Round(1.0, 1.25, 1.0)

    monkeypatch.setattr(calibration_coruns, "timed", note)
    with torch.no_grad():
        assert pace() == (1.25, 1.0)
    assert all(seconds > 0 for seconds in seen)


@pytest.mark.usefixtures("two_models")
def test_one_core_is_shared_by_demand_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_coruns, "cores", lambda: 1)
    assert paced(itertools.repeat(Round(1.0, 2.0, 1.0)), monkeypatch) == (1.0, 1.0)
