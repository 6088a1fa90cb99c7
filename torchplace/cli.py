"""The command line: `torchplace plan | compare | run | topo`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from torchplace import api
from torchplace.errors import OptionError, TorchplaceError
from torchplace.options import resolve_topology
from torchplace.placement.plan import Plan
from torchplace.placement.report.tables import Row
from torchplace.placement.topology.draw import draw_text, matrix_text
from torchplace.runtime.rehearsal import Measurement, measure
from torchplace.targets import load_target

app = typer.Typer(
    help="Place PyTorch models on many devices: plan, compare, run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_out, _err = Console(highlight=False), Console(stderr=True, highlight=False)

Target = Annotated[
    str, typer.Argument(help="package.module:callable or file.py:callable; returns (model, args[, kwargs])")
]
TopologyName = Annotated[str | None, typer.Option(help="a preset, local:N or a file; default: this machine")]
Solver = Annotated[str, typer.Option(help="name of a solver")]
Training = Annotated[bool, typer.Option("--training", help="forward and backward")]
Limit = Annotated[float | None, typer.Option(help="seconds of search")]
Seed = Annotated[int, typer.Option(help="of the solver")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


@app.command()
def plan(
    target: Target,
    topology: TopologyName = None,
    solver: Solver = "auto",
    training: Training = False,
    time_limit: Limit = None,
    seed: Seed = 0,
    pins: Annotated[list[str] | None, typer.Option(help="PATTERN=DEVICE; may be given many times")] = None,
    save: Annotated[Path | None, typer.Option(help="write the plan to this file")] = None,
    as_json: AsJson = False,
) -> None:
    """Plan a model for a topology, without running it."""
    model, args, kwargs = load_target(target)
    with _waiting(f"planning {target}"):
        found = api.plan(
            model,
            args,
            kwargs,
            topology=topology,
            solver=solver,
            training=training,
            time_limit=time_limit,
            seed=seed,
            pins=_pins(pins or []),
        )
    if save is not None:
        found.save(save)
    _print(found.to_dict() if as_json else str(found))


@app.command()
def compare(
    target: Target,
    topology: TopologyName = None,
    solvers: Annotated[str, typer.Option(help="names with commas between, or all")] = "all",
    training: Training = False,
    time_limit: Limit = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Plan a model with several solvers, side by side."""
    model, args, kwargs = load_target(target)
    options = {"topology": topology, "training": training, "time_limit": time_limit, "seed": seed}
    with _waiting(f"comparing solvers on {target}") as progress:
        rows = api.compare(model, args, kwargs, solvers=solvers, on_row=progress, **options)
    _print([_row_data(row) for row in rows] if as_json else str(rows))


@app.command()
def run(
    target: Target,
    topology: TopologyName = None,
    devices: Annotated[int | None, typer.Option(min=1, help="number of devices of this machine")] = None,
    solver: Solver = "auto",
    training: Training = False,
    time_limit: Limit = None,
    seed: Seed = 0,
    plan_file: Annotated[Path | None, typer.Option("--plan", help="run this plan")] = None,
    rehearse: Annotated[bool, typer.Option(help="run another machine's plan on CPU devices")] = False,
    steps: Annotated[int, typer.Option(min=1, help="measured steps")] = 5,
    as_json: AsJson = False,
) -> None:
    """Run a model placed on this machine's devices, compare it with eager, predicted beside measured."""
    if devices is not None and topology is not None:
        raise OptionError(f"--devices {devices} and --topology {topology!r} were both given; give one of them")
    options: dict[str, Any] = {"solver": solver, "time_limit": time_limit, "seed": seed, "rehearse": rehearse}
    options |= {"topology": f"local:{devices}" if devices else topology, "plan": plan_file}
    model, args, kwargs = load_target(target)
    with _waiting(f"running {target}"):
        result = measure(model, args, kwargs, lambda m: api.compile(m, **options), training=training, steps=steps)
    found = api.plans(result.compiled)
    _print(_run_data(found, result) if as_json else "\n\n".join([*map(str, found), str(result)]))


@app.command()
def topo(
    name: Annotated[str, typer.Argument(help="a preset, local:N or a file")] = "local",
    export: Annotated[Path | None, typer.Option(help="write it to this YAML or JSON file")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw a topology."""
    found = resolve_topology(name)
    if export is not None:
        found.save(export)
    _print(found.to_dict() if as_json else f"{draw_text(found)}\n\n{matrix_text(found)}")


def _pins(given: list[str]) -> dict[str, str]:
    pins = {}
    for pin in given:
        pattern, equals, device = pin.rpartition("=")
        if not equals or not pattern:
            raise OptionError(f"--pins {pin!r}: expected PATTERN=DEVICE, such as 'transformer.h.3.*=gpu:1'")
        pins[pattern] = device
    return pins


class _Waiting:
    """A spinner on stderr, which counts rows as they come; nothing where stderr is no terminal."""

    def __init__(self, what: str) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self.what, self.progress = what, Progress(*columns, console=_err, transient=True)

    def __enter__(self) -> _Waiting:
        self.progress.start()
        self.task = self.progress.add_task(self.what, total=None)
        return self

    def __call__(self, row: Row) -> None:
        self.progress.update(self.task, description=f"{self.what}: {row.solver} done")

    def __exit__(self, *_: object) -> None:
        self.progress.stop()


def _waiting(what: str) -> _Waiting:
    return _Waiting(what)


def _print(what: Any) -> None:
    typer.echo(what if isinstance(what, str) else json.dumps(what, indent=1))


def _row_data(row: Row) -> dict[str, Any]:
    data: dict[str, Any] = {
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


def _run_data(found: list[Plan], result: Measurement) -> dict[str, Any]:
    return {"plans": [p.to_dict() for p in found], "measured": result.to_dict()}


def main() -> None:
    """Entry point: errors of ours are one line on stderr and exit status 1; no traceback."""
    try:
        app(standalone_mode=True)
    except TorchplaceError as error:
        _err.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        _err.print("interrupted", style="red")
        raise SystemExit(130) from None
