"""`torchplace plan`: plan a model, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchplace import api
from torchplace.cli.common import (
    AsJson,
    Cost,
    Limit,
    Microbatches,
    Objective,
    Optimizer,
    Schedule,
    Seed,
    Solver,
    Target,
    TopologyName,
    Training,
    Waiting,
    show,
    step_options,
)
from torchplace.cli.hints import Forbid, Pins, Together, hints
from torchplace.placement.progress import listening
from torchplace.targets import load_target


def plan(
    target: Target,
    topology: TopologyName = None,
    solver: Solver = "auto",
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
    save: Annotated[Path | None, typer.Option(help="write the plan to this file")] = None,
    as_json: AsJson = False,
) -> None:
    """Plan a model for a topology, without running it."""
    model, args, kwargs = load_target(target)
    with Waiting(f"planning {target}") as waiting, listening(waiting.note):
        found = api.plan(
            model,
            args,
            kwargs,
            topology=topology,
            solver=solver,
            objective=objective,
            cost=cost,
            training=training,
            optimizer=optimizer,
            time_limit=time_limit,
            seed=seed,
            **step_options(training, microbatches, schedule),
            **hints(pins, together, forbid),
        )
    if save is not None:
        found.save(save)
    show(found.to_dict() if as_json else str(found))
