"""What steps take beside their programs is fitted; here, to steps that are made up."""

from __future__ import annotations

import pytest

from torchplace.runtime import calibration_steps
from torchplace.runtime.calibration_steps import Stepped, beside, step_models


def test_a_step_that_is_a_sum_is_taken_apart() -> None:
    program, argument = 3e-4, 2e-6
    runs = [
        Stepped(seconds, count * program + n * argument, count, n)
        for seconds, count, n in ((2e-3, 1, 20), (9e-3, 2, 300), (5e-2, 2, 700))
    ]
    assert beside(runs) == pytest.approx((program, argument))


def test_nothing_costs_less_than_nothing() -> None:
    runs = [Stepped(1e-3, 4e-4, 2, 10), Stepped(1e-3, 1e-4, 1, 100)]
    assert min(beside(runs)) >= 0


def test_the_models_run_and_every_one_has_something_beside_its_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    models = list(calibration_steps._models())
    monkeypatch.setattr(calibration_steps, "_models", lambda: models[-1:])
    monkeypatch.setattr(calibration_steps, "_STEPS", 2)
    forward, training = step_models()
    assert (forward.programs, training.programs) == (1, 2)
    assert training.arguments > forward.arguments > 0
    assert min(run.beside for run in (forward, training)) > 0
