from __future__ import annotations

from math import log10

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchplace.placement.report.axes import axis, log_axis

VALUES = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=20)


@given(VALUES)
def test_a_logarithmic_axis_has_all_values_inside_and_two_ticks_or_more(values: list[float]) -> None:
    found = log_axis(values)
    assert found.log
    assert found.low < min(values) <= max(values) < found.high
    assert len(found.ticks) >= 2
    assert list(found.ticks) == sorted(set(found.ticks))
    assert all(found.low <= tick <= found.high for tick in found.ticks)
    assert {round(tick / 10 ** round(log10(tick) - 0.35), 6) for tick in found.ticks} <= {1.0, 2.0, 5.0}


@given(VALUES)
def test_an_axis_is_logarithmic_where_values_are_far_apart(values: list[float]) -> None:
    found = axis(values)
    assert found.low <= min(values) <= max(values) < found.high
    assert found.low >= 0
    assert found.log == (max(values) > 10 * min(values))


def test_as_plotly_takes_it() -> None:
    assert log_axis([0.1, 9.0]).options("{:g}x".format)["ticktext"] == ["0.1x", "0.2x", "0.5x", "1x", "2x", "5x", "10x"]
    assert log_axis([1e-3, 1e3]).options(str)["tickvals"] == [10.0**i for i in range(-3, 4)]
    plain = axis([1.0, 2.0]).options(str)
    assert plain["type"] == "linear"
    assert plain["range"] == pytest.approx([0.85, 2.15])
    assert "tickvals" not in plain
