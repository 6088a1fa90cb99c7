"""Rows of comparisons without solving anything, and the cells of printed tables."""

from __future__ import annotations

import dataclasses

from hypothesis import strategies as st

from tests.placement.plans import plan_of
from torchplace.placement.plan import Plan
from torchplace.placement.predicted import Predicted
from torchplace.placement.report.comparison import Comparison, Row

_PLAN = plan_of()


def timed(seconds: float, bound: float = 2.0, objective: str = "latency") -> Plan:
    """A plan that takes so long, in a step or from step to step."""
    predicted = Predicted(seconds, {"d0": 2048, "d1": 100}, bytes_in={"d0": 10, "d1": 5}, period=seconds)
    return dataclasses.replace(_PLAN, predicted=predicted, lower_bound=bound, objective=objective)


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    """Some solvers for some models on some topologies; some find nothing, and the last may not have come."""
    bound = draw(st.sampled_from([0.0, 0.5, 1.0]))
    times, seconds = st.none() | st.floats(1.0, 1e4), st.floats(1e-7, 1e3)
    rows = [
        Row(f"solver{s}", timed(t, bound) if t else None, draw(seconds), "", f"box{b}", f"net{m}", 7 + m)
        for m in range(draw(st.integers(1, 2)))
        for b in range(draw(st.integers(1, 4)) if m == 0 else 1)
        for s in range(draw(st.integers(1, 12)))
        for t in [draw(times)]
    ]
    return Comparison(rows[: draw(st.integers(1, len(rows)))])


def rows_of(text: str) -> dict[str, list[str]]:
    """First cell -> the other cells, of a printed table."""
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    return {cells[0]: cells[1:] for cells in lines}
