"""`torchplace bench placement`: solve published placement problems, beside what is known of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from torchplace.cli.common import AsJson, Seed, Waiting, show
from torchplace.placement.maxload.published import files, known, result_table, solve_file, summary
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
    """Solve published instances of max-load placement, beside what is known of them."""
    paths, others, results = files(where), known(where), []
    with Waiting(f"solving {len(paths)} instances") as waiting:
        for path in paths:
            waiting.note(path.stem)
            result = solve_file(path, contiguous=contiguous, seconds=time_limit, seed=seed)
            results.append(result)
            waiting.line(f"{result.instance}: {result.max_load:.3f}, gap {result.gap:.1%}, {result.seconds:.1f} s")
    if as_json:
        show([dataclasses.asdict(result) for result in results])
        return
    show("\n".join([render(result_table(results, others)), *summary(results, others)]))
