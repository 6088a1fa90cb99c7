from __future__ import annotations

import json
from math import inf

from hypothesis import given

from tests.placement.report.rows import comparisons, rows_of, timed
from torchplace.placement.report.comparison import Comparison, Row, best, ratio, row_text

KEYS = [
    "model", "ops", "topology", "solver", "objective", "fits", "reason", "value", "ratio", "lower_bound", "gap",
    "devices_used", "peak_memory", "moved_bytes", "solve_seconds", "predicted",
]  # fmt: skip


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_solvers_side_by_side() -> None:
    rows = [
        Row("fast", timed(4.0), 0.5, "", "machine", "toy", 8),
        Row("slow", timed(6.0), 2.0, "", "machine", "toy", 8),
        Row("lucky", timed(5.0, bound=0.0), 0.1, "", "machine", "toy", 8),
        Row("too large", None, 0.01, "d0 lacks 3 bytes", "machine", "toy", 8),
    ]
    text = str(Comparison(rows))
    assert text.splitlines()[0] == "toy (8 ops) on machine"
    assert "step time" in text.splitlines()[2]
    found = rows_of(text)
    assert found["fast *"] == ["4 s", "1.00x", "100%", "3", "2.00 KiB", "15 B", "500 ms"]
    assert found["slow"] == ["6 s", "1.50x", "200%", "3", "2.00 KiB", "15 B", "2 s"]
    assert found["lucky"][:3] == ["5 s", "1.25x", "-"]
    assert found["too large"] == ["does not fit", "", "", "", "", "", "10 ms"]
    assert "\x1b" not in text


def test_several_models_and_topologies_are_grouped_and_each_group_has_its_best() -> None:
    rows = Comparison(
        Row(solver, timed(seconds), 1.0, "", topology, model, ops)
        for model, ops in (("small", 3), ("large", 1234))
        for topology in ("here", "there")
        for solver, seconds in (("one", 2.0), ("two", 2.5))
    )
    assert rows.title == "2 models on 2 topologies"
    lines = [line.split("│")[1].strip() for line in str(rows).splitlines() if "│" in line]
    assert lines == [
        *("small (3 ops) on here", "one *", "two", "small (3 ops) on there", "one *", "two"),
        *("large (1,234 ops) on here", "one *", "two", "large (1,234 ops) on there", "one *", "two"),
    ]
    same_model, same_topology = Comparison(rows[:4]), Comparison([*rows[:2], *rows[4:6]])
    assert same_model.title == "small (3 ops) on 2 topologies"
    assert [names for names, _ in same_model.groups()] == [("here",), ("there",)]
    assert same_topology.title == "2 models on here"
    assert [names for names, _ in same_topology.groups()] == [("small (3 ops)",), ("large (1,234 ops)",)]


def test_of_throughput_the_period_is_compared() -> None:
    rows = Comparison([Row("one", timed(2.0, objective="throughput"), 1.0, objective="throughput")])
    assert "period" in str(rows).splitlines()[2]
    assert rows.to_list()[0]["objective"] == "throughput"
    assert Comparison([Row("one", None, 1.0, objective="throughput")]).measure == "period"


def test_nothing_that_fits_and_nothing_at_all() -> None:
    none = Comparison([Row("all", None, 0.0, "d0 lacks 3 bytes")])
    assert "does not fit" in str(none)
    assert "*" not in str(none)
    assert none.to_list()[0]["value"] is None
    assert none.to_list()[0]["reason"] == "d0 lacks 3 bytes"
    assert "0 models" in str(Comparison())
    assert Comparison().to_list() == []


def test_names_are_not_read_as_markup() -> None:
    rows = Comparison([Row("[b]x[/b]", timed(2.0), 1.0, "", "[red]t", "[/]m", 1)])
    assert "[/]m (1 ops) on [red]t" in str(rows)
    assert "[b]x[/b] *" in rows_of(str(rows))


def test_rows_as_they_come() -> None:
    row = Row("fast", timed(4.0), 0.5, "", "machine", "toy")
    assert row_text(row) == "toy on machine  fast  4 s  (solved in 500 ms)"
    assert "does not fit" in row_text(Row("fast", None, 0.5))


@given(comparisons())
def test_the_list_is_json_has_the_same_keys_in_all_rows_and_ratios_that_the_best_has_as_1(rows: Comparison) -> None:
    data = json.loads(json.dumps(rows.to_list()), parse_constant=refuse)
    assert [list(entry) for entry in data] == [KEYS] * len(rows)
    assert [(e["model"], e["topology"], e["solver"]) for e in data] == [(*row.group, row.solver) for row in rows]
    for row, entry in zip(rows, data, strict=True):
        alike = [other["value"] for other in data if (other["model"], other["topology"]) == row.group and other["fits"]]
        assert entry["fits"] == (row.plan is not None) == (entry["value"] is not None) == (entry["ratio"] is not None)
        if entry["fits"]:
            assert entry["ratio"] >= 1
            assert (entry["ratio"] == 1) == (entry["value"] == min(alike))
            assert (entry["gap"] is None) == (entry["lower_bound"] == 0)
            assert (entry["peak_memory"], entry["moved_bytes"]) == (2048, 15)


@given(comparisons())
def test_groups_are_the_rows_in_order_and_are_told_apart(rows: Comparison) -> None:
    groups = list(rows.groups())
    assert [row for _, found in groups for row in found] == list(rows)
    assert len({names for names, _ in groups}) == len(groups) == len({row.group for row in rows})


def test_a_ratio_to_nothing() -> None:
    free, dear = Row("free", timed(0.0, 0.0), 1.0), Row("dear", timed(1.0, 0.0), 1.0)
    assert best([free, dear]) == 0.0
    assert ratio(free, 0.0) == 1.0
    assert ratio(dear, 0.0) == inf
    assert best([]) == inf
