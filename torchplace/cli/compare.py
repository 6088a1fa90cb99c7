"""`torchplace compare`: plan models with several solvers, and for several topologies, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from torchplace.cells import Cell, plan_cells
from torchplace.cli.common import (
    AsJson,
    Cost,
    Limit,
    Microbatches,
    Objective,
    Optimizer,
    Schedule,
    Seed,
    Targets,
    TopologyName,
    Training,
    Waiting,
    complain,
    show,
    step_options,
)
from torchplace.cli.hints import Forbid, Pins, Together, hints
from torchplace.errors import OptionError
from torchplace.placement.plan import Example
from torchplace.placement.progress import listening
from torchplace.placement.report.chart import check_chart
from torchplace.placement.report.comparison import Comparison, row_text
from torchplace.targets import load_target


def compare(
    targets: Targets,
    topology: TopologyName = None,
    topologies: Annotated[str | None, typer.Option(help="several, with commas between")] = None,
    solvers: Annotated[str, typer.Option(help="names with commas between, or all")] = "all",
    objective: Objective = None,
    cost: Cost = "auto",
    training: Training = False,
    microbatches: Microbatches = 1,
    schedule: Schedule = "auto",
    optimizer: Optimizer = None,
    time_limit: Limit = None,
    seed: Seed = 0,
    pins: Pins = None,
    together: Together = None,
    forbid: Forbid = None,
    plot: Annotated[Path | None, typer.Option(help="draw quality against solve time, to this .html file")] = None,
    as_json: AsJson = False,
) -> None:
    """Plan models with several solvers, and for several topologies, side by side.

    An interrupt ends it, and what has come by then is printed, and plotted.
    """
    if plot is not None:
        check_chart(plot)
    options: dict[str, Any] = {"objective": objective, "cost": cost, "training": training, "optimizer": optimizer}
    options |= step_options(training, microbatches, schedule)
    options |= {"topology": topology, "time_limit": time_limit, "seed": seed}
    options |= hints(pins, together, forbid)
    with Waiting("preparing") as waiting:
        cells = plan_cells(_examples(targets, waiting), options, solvers, topologies, waiting.note)
    rows = Comparison()
    try:
        _solve(cells, rows)
    finally:  # whatever ends it, an interrupt for one
        _report(rows, as_json, plot)


def _solve(cells: Sequence[Cell], rows: Comparison) -> None:
    """Appends the row of each cell."""
    try:
        with Waiting("comparing", total=len(cells)) as waiting:
            for cell in cells:
                waiting.note(str(cell))
                with listening(lambda told, cell=cell: waiting.note(f"{cell}: {told}")):  # type: ignore[misc]
                    rows.append(cell.row())
                waiting.line(row_text(rows[-1]))
                waiting.advance()
    finally:
        if len(rows) < len(cells):
            complain(f"stopped while solving {cells[len(rows)]}; {len(rows)} of {len(cells)} were done")


def _report(rows: Comparison, as_json: bool, plot: Path | None) -> None:
    if as_json:
        show(rows.to_list())
    elif rows:
        show(str(rows))
    if rows and plot is not None:
        rows.plot(plot)


def _examples(targets: Sequence[str], waiting: Waiting) -> dict[str, Example]:
    """Each target's call, by the target as it was typed."""
    found: dict[str, Example] = {}
    for target in targets:
        if target in found:
            raise OptionError(f"target {target!r} was given twice; give each one once")
        waiting.note(f"building {target}")
        found[target] = Example(*load_target(target))
    return found
