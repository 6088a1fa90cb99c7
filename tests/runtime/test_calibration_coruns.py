"""How much two devices slow each other is read off training steps side by side, beside the same alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import torch
from torch import nn

from torchplace.runtime import calibration_coruns
from torchplace.runtime.calibration_coruns import Timed, beside, longer, slowdown


def test_a_pair_is_timed_alone_and_side_by_side() -> None:
    alone, meeting = threading.current_thread(), threading.Barrier(2)

    def step() -> float:
        if threading.current_thread() is alone:
            return 1.0
        meeting.wait(timeout=60)  # for ever, if the other did not run at the same time
        return 1.5

    assert longer([step, step]) == pytest.approx(1.5)


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


@pytest.mark.usefixtures("two_models")
@pytest.mark.parametrize(("factors", "expected"), [([1.0, 1.2], 1.1), ([0.5, 0.6], 1.0)])
def test_it_is_the_mean_over_models_and_no_less_than_one(
    factors: Sequence[float], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Timed] = []

    def step(_model: nn.Module, _x: torch.Tensor) -> Timed:
        made.append(lambda: 0.0)
        return made[-1]

    def found(pair: Sequence[Timed]) -> float:
        return factors[made.index(pair[0]) // 2]

    monkeypatch.setattr(calibration_coruns, "_step", step)
    monkeypatch.setattr(calibration_coruns, "longer", found)
    assert slowdown() == pytest.approx(expected)


@pytest.mark.usefixtures("two_models", "one_thread")
def test_models_train_whatever_the_call_that_asks_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def note(pair: Sequence[Timed]) -> float:
        seen.extend(timed() for timed in pair)
        return 1.25

    monkeypatch.setattr(calibration_coruns, "longer", note)
    with torch.no_grad():
        assert slowdown() == 1.25
    assert all(seconds > 0 for seconds in seen)


def test_one_core_is_shared_by_demand_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_coruns, "cores", lambda: 1)
    monkeypatch.setattr(calibration_coruns, "_models", pytest.fail)
    assert slowdown() == 1.0
