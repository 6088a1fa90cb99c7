"""What the commands share: the options, the printing, the spinner."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from torchplace.runtime.progress import giving_way
from torchplace.runtime.steps import loss_of_output

errors = Console(stderr=True, highlight=False)

_TARGET = "package.module:callable or file.py:callable; returns (model, args[, kwargs])"
Target = Annotated[str, typer.Argument(help=_TARGET)]
Targets = Annotated[list[str], typer.Argument(metavar="TARGET...", help=_TARGET)]
TopologyName = Annotated[str | None, typer.Option(help="a preset, local:N or a file; default: this machine")]
Solver = Annotated[str, typer.Option(help="name of a solver")]
Training = Annotated[bool, typer.Option("--training", help="forward and backward")]
Cost = Annotated[str, typer.Option(help="where compute costs come from: auto, roofline, measured or fitted")]
Objective = Annotated[
    str | None,
    typer.Option(help="latency; throughput: from step to step in steady state; or step: of several micro-batches"),
]
Microbatches = Annotated[int, typer.Option(help="into which a step's batch is split; more than one make a pipeline")]
Schedule = Annotated[str, typer.Option(help="of a pipeline: auto, gpipe, 1f1b, interleaved, zero-bubble, synthesised")]
Limit = Annotated[float | None, typer.Option(help="seconds of search")]
Optimizer = Annotated[str | None, typer.Option(help="its state counts in training: adamw, sgd, momentum, ...")]
Seed = Annotated[int, typer.Option(help="of the solver")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


def step_options(training: bool, microbatches: int, schedule: str) -> dict[str, Any]:
    """The options of a step: in training, it has a loss, whatever the model returns (`loss_of_output`)."""
    options: dict[str, Any] = {"microbatches": microbatches, "schedule": schedule}
    return options | {"loss_fn": loss_of_output} if training and microbatches != 1 else options


def show(what: Any) -> None:
    """Prints text as it is, and anything else as JSON, on stdout."""
    typer.echo(what if isinstance(what, str) else json.dumps(what, indent=1))


def complain(text: str) -> None:
    """Prints a message on stderr, as it is."""
    errors.print(text, style="red", markup=False, soft_wrap=True)


class Waiting:
    """A spinner on stderr while something takes long, or a bar where it is known how much is to be done.

    Nothing where stderr is no terminal. What the runtime measures meanwhile shows its own progress in its place.
    """

    def __init__(self, what: str, total: int | None = None) -> None:
        counting = () if total is None else (BarColumn(), MofNCompleteColumn())
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), *counting, TimeElapsedColumn())
        self.what = what
        self.progress = Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal)
        self.task = self.progress.add_task(what, total=total)
        self.way = giving_way(self.progress)

    def __enter__(self) -> Waiting:
        self.progress.start()
        self.way.__enter__()
        return self

    def note(self, doing: str) -> None:
        """Shows what is being done, or was done last."""
        self.progress.update(self.task, description=f"{self.what}: {doing}")

    def line(self, text: str) -> None:
        """Shows a result that has come, above the spinner."""
        if errors.is_terminal:
            errors.print(text, markup=False)

    def advance(self) -> None:
        """Counts one more of the total as done."""
        self.progress.advance(self.task)

    def __exit__(self, *_: object) -> None:
        self.way.__exit__(None, None, None)
        self.progress.stop()
