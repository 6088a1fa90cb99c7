"""Plans side by side: of several solvers, for one or more models and topologies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import compress, groupby
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from torchplace.placement.report.tables import MEASURE, render
from torchplace.placement.report.units import bytes_text, duration_text

if TYPE_CHECKING:
    from torchplace.placement.plan import Plan


@dataclass(frozen=True)
class Row:
    """One solver's line of a comparison.

    Attributes:
        solver: its name.
        plan: what it found; None when it found nothing that fits.
        seconds: that it took.
        reason: why it found nothing.
        topology: name of the topology that it was asked for.
        model: name of the model that it was asked for.
        ops: how many the model's graph has.
        objective: what was to be small.
    """

    solver: str
    plan: Plan | None
    seconds: float
    reason: str = ""
    topology: str = ""
    model: str = ""
    ops: int = 0
    objective: str = "latency"

    @property
    def value(self) -> float:
        """Predicted seconds of what the objective says; infinite where nothing fits."""
        return inf if self.plan is None else self.plan.value

    @property
    def group(self) -> tuple[str, str]:
        """Model and topology: rows that have them in common can be compared."""
        return self.model, self.topology

    @property
    def peak_memory(self) -> int:
        """Bytes of the device that needs most; 0 where nothing fits."""
        return 0 if self.plan is None else max(self.plan.predicted.peak_memory.values(), default=0)

    @property
    def moved_bytes(self) -> int:
        """Bytes that all devices receive in a step; 0 where nothing fits."""
        return 0 if self.plan is None else sum(self.plan.predicted.bytes_in.values())


class Comparison(list[Row]):
    """The rows of a comparison, group by group (a model on a topology), in the order asked for; prints as a table."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        """Of rows that have come; others may be appended."""
        super().__init__(rows)

    @property
    def title(self) -> str:
        """What is compared: `Net (12 ops) on big-sur`, `2 models on 3 topologies`."""
        models = {row.model: row.ops for row in self}
        names = [f"{name} ({ops:,} ops)" for name, ops in models.items()]
        return f"{_one_or_many(names, 'models')} on {_one_or_many({row.topology for row in self}, 'topologies')}"

    @property
    def measure(self) -> str:
        """What the seconds that are compared are called."""
        return MEASURE[self[0].objective if self else "latency"]

    def groups(self) -> Iterator[tuple[tuple[str, ...], list[Row]]]:
        """The rows of each model and topology, behind the names that set the group apart from the others."""
        several = [len({row.group[i] for row in self}) > 1 for i in (0, 1)]
        for (model, topology), rows in groupby(self, key=lambda row: row.group):
            found = list(rows)
            yield tuple(compress((f"{model} ({found[0].ops:,} ops)", topology), several)), found

    def to_list(self) -> list[dict[str, Any]]:
        """The rows as JSON-able data, each with the same keys; what is not known, or not finite, is None."""
        return [_data(row, best(rows)) for _, rows in self.groups() for row in rows]

    def plot(self, path: str | Path) -> None:
        """Write a chart of quality against solve time to an HTML file, whole or not at all; it needs no network.

        Raises:
            OptionError: plotly is not installed, the name does not end in .html, or the file cannot be written.
        """
        from torchplace.placement.report.chart import write_chart

        write_chart(self, Path(path))

    def __str__(self) -> str:
        return render(compare_table(self))


def _one_or_many(names: Iterable[str], what: str) -> str:
    found = list(names)
    return found[0] if len(found) == 1 else f"{len(found)} {what}"


def best(rows: Sequence[Row]) -> float:
    """The least value of rows; infinite where nothing fits."""
    return min((row.value for row in rows), default=inf)


def ratio(row: Row, least: float) -> float:
    """How often the value of a row is the least of its group; infinite where nothing fits."""
    if row.plan is None:
        return inf
    return 1.0 if row.value == least else row.value / least if least else inf


def _data(row: Row, least: float) -> dict[str, Any]:
    plan = row.plan
    return {
        "model": row.model,
        "ops": row.ops,
        "topology": row.topology,
        "solver": row.solver,
        "objective": row.objective,
        "fits": plan is not None,
        "reason": row.reason,
        "value": _finite(row.value),
        "ratio": _finite(ratio(row, least)),
        "lower_bound": None if plan is None else plan.lower_bound,
        "gap": None if plan is None else _finite(plan.gap),
        "devices_used": None if plan is None else list(plan.devices_used),
        "peak_memory": None if plan is None else row.peak_memory,
        "moved_bytes": None if plan is None else row.moved_bytes,
        "solve_seconds": row.seconds,
        "predicted": None if plan is None else asdict(plan.predicted),
    }


def _finite(number: float) -> float | None:
    return number if isfinite(number) else None


def compare_table(comparison: Comparison) -> Table:
    """A line for each solver, below its model and topology where there are several; the best of each are marked."""
    table = Table(title=escape(comparison.title), title_justify="left")
    first, *others = headings(comparison.measure)
    table.add_column(first)
    for column in others:
        table.add_column(column, justify="right", no_wrap=True)
    for names, rows in comparison.groups():
        if names:
            table.add_section()
            table.add_row(f"[b]{escape(' on '.join(names))}[/]")
        least = best(rows)
        for row in rows:
            marked = " *" if row.plan is not None and row.value == least else ""
            table.add_row(escape(row.solver) + marked, *cells(row, least))
    return table


def headings(measure: str) -> tuple[str, ...]:
    """Of the columns; the first is the solver's."""
    return ("solver", measure, "to best", "gap", "devices", "peak memory", "moved", "solve time")


def cells(row: Row, least: float) -> list[str]:
    """What the columns behind the solver's say of a row, beside the least value of its group."""
    if row.plan is None:
        return ["does not fit", "", "", "", "", "", duration_text(row.seconds)]
    return [
        duration_text(row.value),
        f"{ratio(row, least):.2f}x",
        "-" if row.plan.gap == inf else f"{100 * row.plan.gap:.0f}%",
        str(len(row.plan.devices_used)),
        bytes_text(row.peak_memory),
        bytes_text(row.moved_bytes),
        duration_text(row.seconds),
    ]


def row_text(row: Row) -> str:
    """A row in a line, for while others are still to come."""
    found = "does not fit" if row.plan is None else duration_text(row.value)
    return f"{row.model} on {row.topology}  {row.solver}  {found}  (solved in {duration_text(row.seconds)})"
