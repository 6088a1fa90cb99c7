"""`torchplace bench placement`: solve published placement problems, beside what is known of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from torchplace.cli.common import AsJson, Seed, Waiting, complain, show
from torchplace.errors import TorchplaceError
from torchplace.placement.maxload.published import Result, files, known, result_table, result_text, solve_file, summary
from torchplace.placement.report.tables import render

app = typer.Typer(help="Benchmarks of placement.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Benchmarks of placement."""


@app.command()
def placement(
    where: Annotated[
        Path, typer.Argument(help="a directory of instances (JSON, as dnn-partitioning has them), or one")
    ],
    contiguous: Annotated[bool, typer.Option("--contiguous", help="no path may leave a device and come back")] = False,
    time_limit: Annotated[float, typer.Option(help="seconds for each instance", min=0.1)] = 25.0,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Solve published instances of max-load placement, beside what is known of them.

    An interrupt, or an instance that cannot be solved, does not take away what was solved.
    """
    run = _Run(files(where), known(where))
    try:
        run.solve(contiguous=contiguous, seconds=time_limit, seed=seed)
    finally:  # whatever ends it, an interrupt for one
        run.show(as_json)
    if run.failed:
        raise typer.Exit(1)


class _Run:
    """Instances that are solved one after the other; one that cannot be does not hold up the others."""

    def __init__(self, paths: Sequence[Path], others: Mapping[str, Mapping[str, float]]) -> None:
        self.paths, self.others = paths, others
        self.results: list[Result] = []
        self.failed: dict[Path, TorchplaceError] = {}

    def solve(self, **options: Any) -> None:
        with Waiting("solving", total=len(self.paths)) as waiting:
            for path in self.paths:
                waiting.note(path.stem)
                try:
                    self.results.append(solve_file(path, **options))
                    waiting.line(result_text(self.results[-1]))
                except TorchplaceError as error:
                    self.failed[path] = error
                    waiting.line(f"{path.stem}: failed")
                waiting.advance()

    def show(self, as_json: bool) -> None:
        if as_json:
            show([dataclasses.asdict(result) for result in self.results])
        elif self.results:
            show("\n".join([render(result_table(self.results, self.others)), *summary(self.results, self.others)]))
        for path, error in self.failed.items():
            complain(f"error: {path.name}: {error}")
        done = len(self.results) + len(self.failed)
        if done < len(self.paths):
            complain(f"stopped while solving {self.paths[done].name}; {done} of {len(self.paths)} instances were done")
