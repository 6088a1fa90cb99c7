"""A chart of a comparison: how good each solver's plan is, against how long it took to find.

It is drawn by plotly, an optional dependency, as an HTML file with all that it needs in it.
"""

from __future__ import annotations

import html
import importlib
from collections.abc import Iterator, Sequence
from math import ceil, isfinite
from pathlib import Path
from typing import Any

from torchplace.errors import OptionError
from torchplace.placement.report.axes import Axis, axis, log_axis
from torchplace.placement.report.comparison import Comparison, Row, best, cells, headings, ratio
from torchplace.placement.report.units import duration_text
from torchplace.placement.topology.atomic import write_whole

_COLOURS = (
    "#332288", "#CC6677", "#117733", "#DDCC77", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499", "#888888",
)  # fmt: skip
"""The scheme "muted" of Paul Tol, "Colour schemes" (SRON technical note, 2021): told apart by the colour-blind, too."""
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "x")
"""Beside the colour, for who sees none. Seven and ten have no common factor: no pair comes twice in seventy."""
_PANELS = 3  # in a row, at most
_LONG = 40  # characters of a name, at most
_HEAD, _PANEL, _BETWEEN, _FOOT = 150, 360, 130, 90  # pixels


def check_chart(path: Path) -> None:
    """Check, before anything long begins, that a chart can be written to a file.

    Raises:
        OptionError: plotly is not installed, the name does not end in .html, or there is no such folder.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise OptionError(
            f"cannot plot to {str(path)!r}: pictures would need a web browser to draw them; expected a name that ends "
            "in .html (such a page saves itself as a picture with the camera at its top)"
        )
    if not path.parent.is_dir() or path.is_dir():
        raise OptionError(f"cannot plot to {str(path)!r}: expected a file in a folder that is there")
    _plotly("graph_objects")


def write_chart(comparison: Comparison, path: Path) -> None:
    """Draw a comparison, and write it whole or not at all.

    Raises:
        OptionError: as `check_chart` says, or the file cannot be written.
    """
    check_chart(path)
    page = figure(comparison).to_html(include_plotlyjs=True, div_id="comparison", config={"displaylogo": False})
    try:
        write_whole(path, page)
    except OSError as error:
        raise OptionError(f"cannot plot to {str(path)!r}: {error.strerror}") from error


def figure(comparison: Comparison) -> Any:
    """The chart, a plotly figure: a panel for each model and topology, a colour and symbol for each solver.

    Raises:
        OptionError: plotly is not installed.
    """
    groups = list(comparison.groups())
    rows, columns = _grid(comparison, len(groups))
    height = _HEAD + _FOOT + rows * _PANEL
    made = _plotly("subplots").make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[_heading(names, found) for names, found in groups],
        vertical_spacing=_BETWEEN / (height - _HEAD - _FOOT) if rows > 1 else 0,
        horizontal_spacing=0.06,
        x_title="solve time (logarithmic)",
        y_title=f"{comparison.measure} over the best {comparison.measure} (1x = best)",
    )
    x, y = axes(comparison)
    panels = [[*_bound_line(found, x), *_points(found, comparison)] for _, found in groups]
    drawn = [(i, trace) for i, panel in enumerate(panels) for trace in panel]
    for trace in {trace.name: trace for _, trace in reversed(drawn)}.values():
        trace.showlegend = True  # once, however many panels it is in
    places = {"rows": [i // columns + 1 for i, _ in drawn], "cols": [i % columns + 1 for i, _ in drawn]}
    made.add_traces([trace for _, trace in drawn], **places)
    made.update_xaxes(matches="x", ticks="outside", **x.options(duration_text))
    made.update_yaxes(matches="y", ticks="outside", ticksuffix="" if y.ticks else "x", **y.options("{:g}x".format))
    made.update_annotations(selector={"textangle": -90}, xshift=-60)  # the title of the y axes: ticks may be wide
    made.update_layout(**_layout(comparison.title, height))
    return made


def _plotly(module: str) -> Any:
    try:
        return importlib.import_module(f"plotly.{module}")
    except ImportError as error:
        raise OptionError(
            f"plots need the package plotly, which cannot be imported ({error}); pip install torchplace[report]"
        ) from None


def _grid(comparison: Comparison, count: int) -> tuple[int, int]:
    """Rows and columns of panels: models below each other and topologies beside each other, where that is not wide."""
    topologies = len({row.topology for row in comparison})
    columns = topologies if 1 < topologies <= _PANELS else min(_PANELS, max(1, count))
    return max(1, ceil(count / columns)), columns


def _heading(names: Sequence[str], rows: Sequence[Row]) -> str:
    """Of a panel: what it is of, and what cannot be drawn in it."""
    lines = [html.escape(name if len(name) <= _LONG else f"...{name[-_LONG:]}") for name in names]
    if absent := [html.escape(row.solver) for row in rows if row.plan is None]:
        more = f" and {len(absent) - 2} more" if len(absent) > 2 else ""
        lines.append(f"<sup>does not fit: {', '.join(absent[:2])}{more}</sup>")
    return "<br>".join(lines)


def _points(rows: Sequence[Row], comparison: Comparison) -> Iterator[Any]:
    """A point for each solver that found a plan."""
    numbers = {solver: i for i, solver in enumerate(dict.fromkeys(row.solver for row in comparison))}
    least = best(rows)
    for row in rows:
        if isfinite(ratio(row, least)):
            yield _plotly("graph_objects").Scatter(
                x=[_seconds(row)],
                y=[ratio(row, least)],
                mode="markers",
                name=html.escape(row.solver),
                legendgroup=row.solver,
                legendrank=numbers[row.solver],
                showlegend=False,
                marker=_marker(numbers[row.solver]),
                hovertemplate=_hover(row, least, comparison.measure) + "<extra></extra>",
            )


def _bound_line(rows: Sequence[Row], x: Axis) -> Iterator[Any]:
    """What no plan can beat, from end to end, where it is known."""
    if bound := _bound(rows):
        text = f"lower bound, {bound:.2g}x"
        yield _plotly("graph_objects").Scatter(
            x=[x.low, x.high],
            y=[bound, bound],
            mode="lines+text",
            text=["", f"<br>{text}"],
            textposition="bottom left",
            textfont={"size": 12},
            cliponaxis=False,
            name="lower bound",
            legendgroup="",
            legendrank=len(_COLOURS) * len(_SYMBOLS),
            showlegend=False,
            line={"dash": "dash", "color": "#555", "width": 1.5},
            hovertemplate=f"{text}: no plan can be better<extra></extra>",
        )


def _marker(number: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "symbol": _SYMBOLS[number % len(_SYMBOLS)],
        "size": 13,
        "opacity": 0.85,
        "line": {"color": "#222", "width": 1},
    }


def _hover(row: Row, least: float, measure: str) -> str:
    """All that the table says of a row."""
    said = zip(headings(measure)[1:], cells(row, least), strict=True)
    lines = [f"<b>{html.escape(row.solver)}</b>", html.escape(f"{row.model} on {row.topology}")]
    return "<br>".join([*lines, *(f"{html.escape(what)}: {html.escape(text)}" for what, text in said)])


def _seconds(row: Row) -> float:
    return max(row.seconds, 1e-6)  # a logarithm is needed


def _bound(rows: Sequence[Row]) -> float:
    """What no plan can beat, over the best plan; 0 where it is not known."""
    bounds = [row.plan.lower_bound for row in rows if row.plan is not None]
    least = best(rows)
    return max(bounds) / least if bounds and 0 < least < float("inf") else 0.0


def _layout(title: str, height: int) -> dict[str, Any]:
    how = "each point is one solver's plan; further left was found sooner, further down is better"
    return {
        "template": "plotly_white",
        "title": {
            "text": f"Solvers compared: {html.escape(title)}<br><sup>{how}</sup>",
            "yref": "container",
            "y": 1 - 35 / height,
        },
        "legend": {"title": {"text": "solver"}, "itemsizing": "constant", "tracegroupgap": 0},
        "hoverlabel": {"align": "left"},
        "font": {"size": 14},
        "margin": {"t": _HEAD, "b": _FOOT, "l": 110},
        "height": height,
    }


def axes(comparison: Comparison) -> tuple[Axis, Axis]:
    """What all panels show on their axes: seconds of solving, and ratios to the best with the bounds."""
    groups = [rows for _, rows in comparison.groups()]
    seconds = [_seconds(row) for rows in groups for row in rows if row.plan is not None]
    ratios = [r for rows in groups for row in rows if isfinite(r := ratio(row, best(rows)))]
    heights = [1.0, *ratios, *filter(None, map(_bound, groups))]
    return log_axis(seconds or [1.0]), axis(heights)
