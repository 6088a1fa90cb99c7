"""What the commands share: the options, the printing, the spinner."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

errors = Console(stderr=True, highlight=False)

Target = Annotated[
    str, typer.Argument(help="package.module:callable or file.py:callable; returns (model, args[, kwargs])")
]
TopologyName = Annotated[str | None, typer.Option(help="a preset, local:N or a file; default: this machine")]
Solver = Annotated[str, typer.Option(help="name of a solver")]
Training = Annotated[bool, typer.Option("--training", help="forward and backward")]
Cost = Annotated[str, typer.Option(help="where compute costs come from: auto, roofline, measured or fitted")]
Objective = Annotated[str, typer.Option(help="latency, or throughput: from step to step in steady state")]
Limit = Annotated[float | None, typer.Option(help="seconds of search")]
Optimizer = Annotated[str | None, typer.Option(help="its state counts in training: adamw, sgd, momentum, ...")]
Seed = Annotated[int, typer.Option(help="of the solver")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


def show(what: Any) -> None:
    """Prints text as it is, and anything else as JSON, on stdout."""
    typer.echo(what if isinstance(what, str) else json.dumps(what, indent=1))


class Waiting:
    """A spinner on stderr while something takes long; nothing where stderr is no terminal."""

    def __init__(self, what: str) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self.what, self.progress = what, Progress(*columns, console=errors, transient=True)

    def __enter__(self) -> Waiting:
        self.progress.start()
        self.task = self.progress.add_task(self.what, total=None)
        return self

    def note(self, done: str) -> None:
        """Shows what is done so far."""
        self.progress.update(self.task, description=f"{self.what}: {done}")

    def line(self, text: str) -> None:
        """Shows a result that has come, above the spinner."""
        if errors.is_terminal:
            self.progress.console.print(text)

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
