from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from tests.placement.report.rows import comparisons, timed
from torchplace.errors import OptionError
from torchplace.placement.report import chart
from torchplace.placement.report.chart import check_chart, figure, write_chart
from torchplace.placement.report.comparison import Comparison, Row, best, ratio
from torchplace.placement.topology import atomic


def points(made: Any) -> list[Any]:
    return [trace for trace in made.data if trace.mode == "markers"]


def toy() -> Comparison:
    return Comparison(
        Row(solver, timed(seconds, bound=1.0) if seconds else None, 0.1, "", topology, "toy", 8)
        for topology in ("here", "there")
        for solver, seconds in (("fast", 2.0), ("slow", 3.0), ("large", 0.0))
    )


@settings(max_examples=8)
@given(comparisons())
def test_every_plan_is_a_point_where_it_belongs(rows: Comparison) -> None:
    made = figure(rows)
    drawn = [(trace.name, trace.x[0], trace.y[0]) for trace in points(made)]
    groups = [found for _, found in rows.groups()]
    assert drawn == [
        (row.solver, max(row.seconds, 1e-6), ratio(row, best(found)))
        for found in groups
        for row in found
        if row.plan is not None
    ]
    panels = {(trace.xaxis, trace.yaxis) for trace in points(made)}
    assert len(panels) == sum(any(row.plan is not None for row in found) for found in groups)


@settings(max_examples=8)
@given(comparisons())
def test_a_solver_looks_the_same_in_all_panels_unlike_any_other_and_is_in_the_legend_once(rows: Comparison) -> None:
    looks, shown = defaultdict(set), defaultdict(int)
    for trace in points(figure(rows)):
        looks[trace.name].add((trace.marker.color, trace.marker.symbol))
        shown[trace.name] += trace.showlegend
    assert all(len(found) == 1 for found in looks.values())
    assert len(set.union(set(), *looks.values())) == len(looks)
    assert set(shown.values()) <= {1}


def test_the_bound_is_a_line_in_each_panel_where_it_is_known() -> None:
    lines = [trace for trace in figure(toy()).data if trace.mode == "lines+text"]
    assert [list(trace.y) for trace in lines] == [[0.5, 0.5]] * 2, "1 s of 2 s"
    assert lines[0].text[1].endswith("lower bound, 0.5x")
    unknown = Comparison([Row("fast", timed(2.0, bound=0.0), 0.1)])
    assert len(figure(unknown).data) == 1


def test_what_is_compared_and_what_does_not_fit_is_said() -> None:
    made = figure(toy())
    assert "toy (8 ops) on 2 topologies" in made.layout.title.text
    texts = [annotation.text for annotation in made.layout.annotations]
    assert texts[:2] == [f"{where}<br><sup>does not fit: large</sup>" for where in ("here", "there")]
    assert texts[2:] == ["solve time (logarithmic)", "step time over the best step time (1x = best)"]
    nothing = figure(Comparison([Row(str(i), None, 0.1) for i in range(5)]))
    assert nothing.layout.annotations[0].text == "<sup>does not fit: 0, 1 and 3 more</sup>"


def test_pointing_at_a_plan_shows_all_that_the_table_says() -> None:
    shown = points(figure(toy()))[1].hovertemplate
    for words in ("slow", "toy on here", "step time: 3 s", "to best: 1.50x", "gap: 200%", "devices: 3"):
        assert words in shown
    for words in ("peak memory: 2.00 KiB", "moved: 15 B", "solve time: 100 ms"):
        assert words in shown


def test_names_are_text_not_html(tmp_path: Path) -> None:
    name = "<b>&</script><script>alert(1)</script>"
    rows = Comparison(Row(name, timed(2.0), 0.1, "", t, name, 1) for t in (name, "there"))
    rows.plot(tmp_path / "out.html")
    assert "alert(1)</script>" not in (tmp_path / "out.html").read_text()
    made = figure(rows)
    shown = [made.layout.title.text, *(a.text for a in made.layout.annotations)]
    shown += [text for trace in made.data for text in (trace.name, trace.hovertemplate)]
    assert any("&lt;script&gt;" in text for text in shown)
    assert not any("<script>" in text for text in shown)


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    toy().plot(str(tmp_path / "out.html"))
    page = (tmp_path / "out.html").read_text()
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", page[:2000] + page[-20_000:])
    assert len(page) > 1_000_000, "the library is in it"
    assert page.rstrip().endswith("</html>")
    assert [path.name for path in tmp_path.iterdir()] == ["out.html"]


def test_it_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.html"
    path.write_text("old")

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(OptionError, match=r"cannot plot to .*out\.html.*No space left"):
        write_chart(toy(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "said"),
    [("out.svg", r"ends in \.html"), ("out", r"ends in \.html"), ("none/out.html", "a folder that is there")],
)
def test_files_that_cannot_be_written_are_refused(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        check_chart(tmp_path / name)


def test_without_plotly_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(OptionError, match=r"pip install torchplace\[report\]"):
        check_chart(tmp_path / "out.html")


def test_colours_and_symbols_are_not_repeated_together() -> None:
    pairs = {tuple(chart._marker(i)[what] for what in ("color", "symbol")) for i in range(70)}
    assert len(pairs) == 70
