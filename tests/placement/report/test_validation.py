"""What people and programs read of a validation."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tests.placement.report.test_alignment import STEPS, ran
from tests.placement.report.test_tables import rows_of
from torchplace.placement.report.account import Split
from torchplace.placement.report.validation import PATH, Unit, Validation

ONE = ran(*STEPS, ops={"s0": [3.0, 0.6, 0.4], "s1": [4.0, 0.0]})
VALIDATION = Validation("toy", "pair", False, "table", [ONE], [11.0, 13.0, 14.0], [1.0, 1.0, 1.0, 1.5], ("take care",))


def test_the_step_of_median_length() -> None:
    """Predicted: 3, 16 bytes and 0.5, 4. The second step is measured to take 13, 12 of which are on its timeline."""
    assert VALIDATION.step_time.predicted == 23.5
    assert VALIDATION.step_time.measured == 13.0
    assert VALIDATION.error == pytest.approx(23.5 / 13 - 1)
    assert dataclasses.replace(VALIDATION, steps=[11.0, 13.0]).step_time.measured == 11.0, "one that was measured"


def test_where_the_time_goes() -> None:
    predicted, measured = VALIDATION.splits[PATH]
    assert predicted == Split(compute=7.0, transfer=16.5)
    assert measured == Split(compute=11.0, transfer=1.0, host=1.0)
    predicted, measured = VALIDATION.splits["a"]
    assert predicted == Split(compute=3.0, waiting=20.5)
    assert measured == Split(compute=5.0, waiting=6.5, host=1.5)
    for split in VALIDATION.splits.values():
        assert [one.total for one in split] == [23.5, 13.0]


def test_the_drift_of_the_reference() -> None:
    assert VALIDATION.drift == pytest.approx(0.5)
    assert dataclasses.replace(VALIDATION, references=[2.0]).drift == 0.0
    many = [1.0] * 10 + [1.2] * 9 + [5.0]
    assert dataclasses.replace(VALIDATION, references=many).drift == pytest.approx(0.2), "one outlier is left out"


def test_the_pace_since_the_calibration() -> None:
    assert (VALIDATION.pace, VALIDATION.paced_error) == (1.0, VALIDATION.error), "it is not known"
    assert "calibrated" not in str(VALIDATION)
    slower = dataclasses.replace(VALIDATION, kept=0.8)
    assert slower.pace == pytest.approx(1.25)
    assert slower.paced_error == pytest.approx(1.25 * 23.5 / 13 - 1)
    text = " ".join(str(slower).split())
    assert (
        "took 1.25 times as long as when the machine was calibrated; predicted for that pace, the error is +126" in text
    )


def test_the_worst_instructions() -> None:
    assert [one.what.partition(":")[0] for one in VALIDATION.worst(2)] == ["send %two to b", "run s0"]


def test_as_tables() -> None:
    text = str(VALIDATION)
    assert text.splitlines()[0] == "toy on pair: predicted 23.5 s, measured 13 s, error +80.8%"
    assert "forward; costs: table; median of 3 steps of 11 s to 14 s; the machine drifted by 50% meanwhile" in text
    assert "take care" in text
    rows = rows_of(text)
    assert rows["b"] == ["run s1: 1 op, net.2 (forward)", "4.00", "5.00", "-1.00", "-20%"], "of the last table"
    assert rows[PATH] == ["7.00 > 11.00", "16.50 > 1.00", "0.00 > 0.00", "0.00 > 1.00", "23.50 > 13.00"]
    assert rows["its error"] == ["-4.00", "+15.50", "+0.00", "-1.00", "+10.50"]
    assert rows["aten.mm"] == ["products", "2", "5.00", "8.75", "-3.75", "-43%"]
    assert rows["(beside the ops)"] == ["", "", "0.00", "0.50", "-0.50", "-100%"]
    assert repr(VALIDATION) == ("<Validation of 'toy' on 'pair': predicted 23.5 s, measured 13 s, error +80.8%>")


def test_as_data() -> None:
    data = json.loads(json.dumps(VALIDATION.to_dict()))
    assert data["step_time"] == {"predicted": 23.5, "measured": 13.0}
    assert data["splits"]["b"]["measured"] == {"compute": 6.0, "transfer": 1.0, "waiting": 5.0, "host": 1.0}
    assert sum(row["time"]["measured"] for row in data["families"]) == pytest.approx(10.0)
    assert {"part": 0, "device": "b", "instruction": "run s1: 1 op, net.2 (forward)", "predicted": 4.0,
            "measured": 5.0} in data["instructions"]  # fmt: skip
    assert (data["error"], data["drift"]) == (VALIDATION.error, VALIDATION.drift)


@pytest.mark.parametrize(
    ("largest", "name", "text"), [(2.0, "s", "0.01"), (0.5, "ms", "12.00"), (0.000_9, "us", "12000.00")]
)
def test_units(largest: float, name: str, text: str) -> None:
    unit = Unit.of(largest)
    assert (unit.name, unit.text(0.012)) == (name, text)
