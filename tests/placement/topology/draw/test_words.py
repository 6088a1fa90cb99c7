from __future__ import annotations

import pytest

from torchplace.placement.topology.draw.words import columns, counted, names_text, rate, three


@pytest.mark.parametrize(
    ("bandwidth", "text"),
    [
        (12e9, "12 GB/s"),
        (23.95e9, "23.9 GB/s"),
        (94.5e6, "94.5 MB/s"),
        (1e9, "1 GB/s"),
        (3.35e12, "3.35 TB/s"),
        (999.9e9, "1 TB/s"),  # as it is shown: never 1e+03 GB/s
        (2e3, "2 kB/s"),
        (5000e12, "5,000 TB/s"),
    ],
)
def test_rates(bandwidth: float, text: str) -> None:
    assert rate(bandwidth) == text


def test_three_digits_without_exponents() -> None:
    assert [three(number) for number in (1978.9, 0.214, 999.4, 999.6)] == ["1,979", "0.214", "999", "1,000"]


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["gpu:0", "gpu:1", "gpu:2", "nvswitch"], "gpu:0..gpu:2, nvswitch"),
        (["gpu:0", "gpu:1"], "gpu:0, gpu:1"),
        (["gpu:9", "gpu:10", "gpu:11", "cpu:12"], "gpu:9..gpu:11, cpu:12"),
        (["a", "b"], "a, b"),
        (["n0/gpu:0", "n0/gpu:2", "n1/gpu:3"], "n0/gpu:0, n0/gpu:2, n1/gpu:3"),
        ([], ""),
    ],
)
def test_names_that_count_up_are_drawn_together(names: list[str], text: str) -> None:
    assert names_text(names) == text


def test_counts() -> None:
    assert [counted(1, "switch"), counted(2, "switch"), counted(0, "device")] == ["1 switch", "2 switches", "0 devices"]
    assert counted(1234, "nic") == "1,234 nics"


def test_columns() -> None:
    assert columns([["a", "bb", ""], ["ccc", "d", "x"]], right=[1]) == ["a    bb", "ccc   d  x"]
