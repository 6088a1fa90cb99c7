from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchplace.placement.report.units import bytes_text, duration_text, ratio_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 us"), (1.5e-9, "0.0015 us"), (2.5e-6, "2.5 us"), (9.999e-4, "1 ms"), (1e-3, "1 ms"),
     (0.0123, "12.3 ms"), (0.9996, "1 s"), (1.0, "1 s"), (75.25, "75.2 s"), (4000.0, "4000 s")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (1.5 * 2**20, "1.50 MiB"), (2**30, "1.00 GiB"),
     (3 * 2**40, "3.00 TiB"), (5 * 2**50, "5120.00 TiB")],
)  # fmt: skip
def test_bytes(count: float, text: str) -> None:
    assert bytes_text(count) == text


def test_shares() -> None:
    assert ratio_text(1, 3) == "33.3%"
    assert ratio_text(0, 3) == "0.0%"
    assert ratio_text(1, 0) == "-"


@given(st.floats(1e-9, 1e6), st.floats(1.01, 2.0))
def test_no_figure_is_off_by_more_than_it_shows(seconds: float, factor: float) -> None:
    number, unit = duration_text(seconds).split()
    assert float(number) * {"s": 1.0, "ms": 1e-3, "us": 1e-6}[unit] == pytest.approx(seconds, rel=0.006)
    assert "e" not in number
