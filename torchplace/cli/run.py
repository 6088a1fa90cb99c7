"""`torchplace run`: run a placed model here, beside eager, and beside what was predicted."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from torchplace import api
from torchplace.cli.common import (
    AsJson,
    Cost,
    Limit,
    Microbatches,
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
from torchplace.errors import OptionError
from torchplace.runtime.rehearsal import measure
from torchplace.runtime.steps import step_of
from torchplace.runtime.validation import validate
from torchplace.targets import load_target


def run(
    target: Target,
    topology: TopologyName = None,
    devices: Annotated[int | None, typer.Option(min=1, help="number of devices of this machine")] = None,
    solver: Solver = "auto",
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
    plan_file: Annotated[Path | None, typer.Option("--plan", help="run this plan")] = None,
    rehearse: Annotated[bool, typer.Option(help="run another machine's plan on CPU devices")] = False,
    steps: Annotated[int, typer.Option(min=1, help="measured steps")] = 5,
    predict: Annotated[bool, typer.Option("--predict", help="say where the prediction is off, and by what")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a model placed on this machine's devices, beside eager; with --predict, beside its prediction, too.

    With --microbatches, a pipeline runs; its loss is the model's own, or the sum of the means of its outputs.
    """
    if devices is not None and topology is not None:
        raise OptionError(f"--devices {devices} and --topology {topology!r} were both given; give one of them")
    options: dict[str, Any] = {"solver": solver, "cost": cost, "optimizer": optimizer, "rehearse": rehearse}
    options |= {"topology": f"local:{devices}" if devices else topology, "plan": plan_file}
    options |= {"time_limit": time_limit, "seed": seed, **hints(pins, together, forbid)}
    options |= step_options(training, microbatches, schedule)
    model, args, kwargs = load_target(target)
    with Waiting(f"running {target}"):
        compiler = functools.partial(api.compile, **options)
        result = measure(model, args, kwargs, compiler, training=training, steps=steps, microbatches=microbatches)
        found = api.plans(result.compiled)
        step = step_of(result.compiled, args, kwargs, training, microbatches)
        validation = validate(api.session_of(result.compiled), step, steps=steps) if predict else None
    if as_json:
        data: dict[str, Any] = {"plans": [plan.to_dict() for plan in found], "measured": result.to_dict()}
        show(data if validation is None else data | {"validation": validation.to_dict()})
    else:
        show("\n\n".join(map(str, [*found, result, *([validation] if validation is not None else [])])))
