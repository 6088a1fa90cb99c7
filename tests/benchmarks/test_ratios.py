"""Plans of one case side by side."""

from __future__ import annotations

import math

import pytest

from benchmarks._quality_tables import summary, tables
from benchmarks._ratios import Case, Result, cases, geometric_mean, mean, verdict


def result(solver: str, value: float | None, bound: float = 1.0, objective: str = "latency") -> Result:
    reason = "does not fit: d0 lacks 1 byte" if value is None else ""
    return Result("toy", "box", objective, solver, value, bound if value is not None else 0.0, solver, 1, 0.1, reason)


def case(bound: float = 1.0, **values: float | None) -> Case:
    [found] = cases([result(solver.replace("_", "-"), value, bound) for solver, value in values.items()])
    return found


def test_results_are_sorted_into_their_cases() -> None:
    found = cases([result("auto", 2.0), result("auto", 3.0, objective="throughput"), result("heft", 4.0)])
    assert [c.key for c in found] == [("toy", "box", "latency"), ("toy", "box", "throughput")]
    assert set(found[0].results) == {"auto", "heft"}


def test_the_default_is_held_against_the_best_of_the_others_not_against_itself() -> None:
    found = case(auto=2.0, heft=4.0, balanced=3.0)
    assert found.best == "balanced"
    assert found.ratio(*found.others) == pytest.approx(2 / 3)
    assert found.gap == pytest.approx(1.0)


def test_there_is_no_ratio_to_what_has_no_plan_and_no_plan_of_the_default_is_infinitely_worse() -> None:
    assert case(auto=2.0, memory_balanced=None).ratio("memory-balanced") is None
    assert case(auto=2.0).ratio("memory-balanced") is None
    assert case(auto=None, memory_balanced=2.0).ratio("memory-balanced") == math.inf
    assert case(auto=None, heft=None).best == ""
    assert not case(auto=None, heft=None).fits


@pytest.mark.parametrize(
    ("auto", "usual", "bound", "expected"),
    [
        (0.8, 1.0, 0.1, "met"),
        (0.9, 1.0, 0.79, "missed"),
        (0.9, 1.0, 0.81, "out of reach"),
        (0.9, None, 0.5, "no plan to beat"),
        (None, 1.0, 0.5, "missed"),
    ],
)
def test_a_target_is_out_of_reach_where_the_bound_is_above_it(
    auto: float | None, usual: float | None, bound: float, expected: str
) -> None:
    assert verdict(case(bound, auto=auto, memory_balanced=usual), "auto/usual") == expected


def test_geometric_means_are_over_those_that_have_the_ratio() -> None:
    found = [case(auto=2.0, heft=1.0), case(auto=1.0, heft=8.0), case(auto=1.0, heft=None)]
    assert mean("auto/classical", found) == pytest.approx(0.5)
    assert mean("auto/usual", found) is None
    assert geometric_mean([2.0, math.inf]) == math.inf
    assert geometric_mean([0.0, 2.0]) == 0.0


def test_tables_tell_of_what_has_no_plan() -> None:
    results = [
        result("auto", 0.002, 0.001),
        result("memory-balanced", None),
        result("auto", None, objective="throughput"),
        result("heft", 0.003, 0.001, "throughput"),
        result("auto", None, objective="training"),
    ]
    text = tables(cases(results))
    assert "no plan, but heft has one" in text
    assert "auto has a plan where memory-balanced finds none: toy box latency" in text
    assert "nothing fits: toy box training" in text
    assert summary(cases(results))["all"]["auto/classical"] == math.inf


def test_tables_of_a_run_without_the_default_have_no_ratios() -> None:
    text = tables(cases([result("heft", 0.003), result("memory-balanced", 0.004)]))
    assert "heft 3.000 ms" in text
    assert "auto/best at most 1.01: no case" in text
