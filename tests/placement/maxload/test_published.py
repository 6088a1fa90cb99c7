"""The table of published instances and its summary, also of few answers or none."""

from __future__ import annotations

import pytest

from torchplace.placement.maxload.published import Result, result_table, result_text, summary
from torchplace.placement.report.tables import render


def result(name: str, load: float, bound: float) -> Result:
    return Result(name, "by hand", load, bound, 1.5, 100.0, True, {"0": "fpga0"})


def test_a_summary_of_what_there_is() -> None:
    results = [result("a", 4.0, 2.0), result("b", 9.0, 2.0)]
    others = {"a": {"dp": 2.0, "zero": 0.0}, "b": {"dp": 18.0}, "c": {"slow": 1.0}}
    gap, dp = summary(results, others)
    assert gap == "gap, geometric mean: 200.0%"
    assert dp == "ours over dp, geometric mean of 2: 1.000"


def test_a_summary_of_nothing() -> None:
    assert summary([], {"a": {"dp": 2.0}}) == []
    assert "instance" in render(result_table([], {}))
    assert summary([result("empty", 0.0, 0.0)], {"empty": {"dp": 0.0}}) == ["gap, geometric mean: 0.0%"]


def test_a_result_as_it_comes() -> None:
    assert result_text(result("a", 4.0, 3.2)) == "a: 4.000, gap 25.0%, 1.5 s"


@pytest.mark.parametrize("method", ["dp", "slow"])
def test_what_others_found_has_a_column(method: str) -> None:
    table = render(result_table([result("a", 4.0, 2.0)], {"a": {"dp": 2.0}, "b": {"slow": 1.0}}))
    assert (method in table) == (method == "dp")
