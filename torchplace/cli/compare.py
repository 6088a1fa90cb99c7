"""`torchplace compare`: plan a model with several solvers, and for several topologies, side by side."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from torchplace import api
from torchplace.cli.common import (
    AsJson,
    Cost,
    Limit,
    Objective,
    Optimizer,
    Seed,
    Target,
    TopologyName,
    Training,
    Waiting,
    show,
)
from torchplace.cli.hints import Forbid, Pins, Together, hints
from torchplace.placement.report.tables import Row, row_text
from torchplace.targets import load_target


def compare(
    target: Target,
    topology: TopologyName = None,
    topologies: Annotated[str | None, typer.Option(help="several, with commas between")] = None,
    solvers: Annotated[str, typer.Option(help="names with commas between, or all")] = "all",
    objective: Objective = "latency",
    cost: Cost = "auto",
    training: Training = False,
    optimizer: Optimizer = None,
    time_limit: Limit = None,
    seed: Seed = 0,
    pins: Pins = None,
    together: Together = None,
    forbid: Forbid = None,
    as_json: AsJson = False,
) -> None:
    """Plan a model with several solvers, and for several topologies, side by side."""
    model, args, kwargs = load_target(target)
    options: dict[str, Any] = {"objective": objective, "cost": cost, "training": training, "optimizer": optimizer}
    options |= {"topology": topology, "time_limit": time_limit, "seed": seed}
    options |= hints(pins, together, forbid)
    with Waiting(f"comparing solvers on {target}") as waiting:

        def on_row(row: Row) -> None:
            waiting.line(row_text(row))
            waiting.note(f"{row.solver} on {row.topology} done")

        rows = api.compare(model, args, kwargs, solvers=solvers, topologies=topologies, on_row=on_row, **options)
    show([_row_data(row) for row in rows] if as_json else str(rows))


def _row_data(row: Row) -> dict[str, Any]:
    data: dict[str, Any] = {
        "topology": row.topology,
        "solver": row.solver,
        "seconds": row.seconds,
        "reason": row.reason,
        "fits": row.plan is not None,
    }
    if row.plan is not None:
        data |= {"lower_bound": row.plan.lower_bound, "gap": row.plan.gap}
        data |= {
            "devices_used": list(row.plan.devices_used),
            "predicted": dataclasses.asdict(row.plan.predicted),
        }
    return data
