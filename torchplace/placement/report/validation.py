"""Validation: a plan that was run here, predicted beside measured, and where its error comes from."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

from rich.table import Table

from torchplace.placement.report.account import Split, step_account
from torchplace.placement.report.alignment import Aligned, Family, Pair, Ran, align, families
from torchplace.placement.report.tables import render
from torchplace.placement.report.units import duration_text

PATH = "critical path"
SHOWN = 10
"""Lines of a table of which the whole is in `to_dict`."""


@dataclass(frozen=True)
class Validation:
    """A plan beside a run of it.

    Attributes:
        name: of the model.
        topology: name of the topology.
        training: whether a step has a backward.
        cost: source of the compute costs of the prediction.
        ran: the programs of a step, in the order in which they ran.
        steps: seconds of each measured step.
        references: seconds of a fixed piece of work (`runtime.reference`), before each step and after the last.
        notes: what else a reader must know.
        kept: seconds of that fixed piece of work when the costs were measured, for whose pace they are kept; None where
            they are not those of this machine.
    """

    name: str
    topology: str
    training: bool
    cost: str
    ran: Sequence[Ran]
    steps: Sequence[float]
    references: Sequence[float]
    notes: tuple[str, ...] = ()
    kept: float | None = None

    @property
    def step_time(self) -> Pair:
        """Seconds of a step: predicted, and the median of those measured (the lower, of an even number)."""
        return Pair(sum(one.predicted.duration for one in self.ran), statistics.median_low(self.steps))

    @property
    def error(self) -> float:
        """Relative error of the predicted step time: -0.1 is a prediction that is a tenth too short."""
        return self.step_time.predicted / self.step_time.measured - 1

    @property
    def pace(self) -> float:
        """How many times as long this machine took for a fixed piece of work as when it was calibrated."""
        return statistics.median(self.references) / self.kept if self.kept else 1.0

    @property
    def paced_error(self) -> float:
        """Relative error of the step time that would have been predicted at the pace which the machine had."""
        return self.pace * self.step_time.predicted / self.step_time.measured - 1

    @property
    def drift(self) -> float:
        """How much the machine drifted meanwhile: slowest over fastest time of the reference, without outliers, less 1.

        From the 10th to the 90th percentile. An error below that tells nothing.
        """
        ordered = sorted(self.references)
        return ordered[round(0.9 * (len(ordered) - 1))] / ordered[round(0.1 * (len(ordered) - 1))] - 1

    @cached_property
    def instructions(self) -> list[Aligned]:
        """Every run, update, accumulation and send, predicted and measured."""
        return align(self.ran)

    def worst(self, count: int = SHOWN) -> list[Aligned]:
        """The instructions that are the furthest off, in seconds."""
        return sorted(self.instructions, key=lambda one: -abs(one.error))[:count]

    @cached_property
    def families(self) -> list[Family]:
        """What the ops took by family, those with the largest error first (`alignment.families`)."""
        return families(self.ran, self.instructions)

    @cached_property
    def splits(self) -> dict[str, tuple[Split, Split]]:
        """Each device that did something, and `PATH`, with where its time goes: predicted, and measured.

        Measured is the step of median length. All that a row has adds up to the step time.
        """
        median = self.steps.index(self.step_time.measured)
        devices, path = step_account([one.accounts[0] for one in self.ran], self.step_time.predicted)
        others, other = step_account([one.accounts[1][median] for one in self.ran], self.step_time.measured)
        rows = {d: (split, others[d]) for d, split in devices.items() if d in others}
        return {**rows, PATH: (path, other)}

    def to_dict(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        return {
            "name": self.name,
            "topology": self.topology,
            "training": self.training,
            "cost": self.cost,
            "step_time": asdict(self.step_time),
            "error": self.error,
            "steps": list(self.steps),
            "references": list(self.references),
            "drift": self.drift,
            "pace": self.pace,
            "paced_error": self.paced_error,
            "splits": {n: {"predicted": asdict(p), "measured": asdict(m)} for n, (p, m) in self.splits.items()},
            "families": [{**asdict(row), "time": asdict(row.time)} for row in self.families],
            "instructions": [
                {"part": one.part, "device": one.device, "instruction": one.what, "predicted": one.predicted,
                 "measured": one.measured} for one in self.instructions
            ],
            "notes": list(self.notes),
        }  # fmt: skip

    def __repr__(self) -> str:
        pair = self.step_time
        return (
            f"<Validation of {self.name!r} on {self.topology!r}: predicted {pair.predicted:.3g} s, "
            f"measured {pair.measured:.3g} s, error {self.error:+.1%}>"
        )

    def __str__(self) -> str:
        unit = Unit.of(self.step_time.measured)
        tables = _split_table(self.splits, unit), _family_table(self.families, unit), _worst_table(self, unit)
        return render(*_heading(self), *(part for table in tables for part in ("", table)))


def _heading(validation: Validation) -> list[str]:
    pair, steps = validation.step_time, validation.steps
    what = "forward and backward" if validation.training else "forward"
    return [
        f"{validation.name} on {validation.topology}: predicted {duration_text(pair.predicted)}, "
        f"measured {duration_text(pair.measured)}, error {validation.error:+.1%}",
        f"{what}; costs: {validation.cost}; median of {len(steps)} steps of {duration_text(min(steps))} to "
        f"{duration_text(max(steps))}; the machine drifted by {validation.drift:.0%} meanwhile",
        *_pace(validation),
        *validation.notes,
    ]


def _pace(validation: Validation) -> list[str]:
    if not validation.kept:
        return []
    return [
        f"the same work took {validation.pace:.2f} times as long as when the machine was calibrated; predicted for "
        f"that pace, the error is {validation.paced_error:+.1%}"
    ]


class Unit(NamedTuple):
    """What the seconds of a report are shown in."""

    name: str
    seconds: float

    @classmethod
    def of(cls, largest: float) -> Unit:
        """One in which the largest figure is 1 or more."""
        return next((unit for unit in (cls("s", 1.0), cls("ms", 1e-3)) if largest >= unit.seconds), cls("us", 1e-6))

    def text(self, seconds: float) -> str:
        """With two digits behind the point."""
        return f"{seconds / self.seconds:.2f}"

    def signed(self, seconds: float) -> str:
        """With its sign."""
        return f"{seconds / self.seconds:+.2f}"


def _split_table(splits: Mapping[str, tuple[Split, Split]], unit: Unit) -> Table:
    """A line for each device: what it spends its time on."""
    names = [f.name for f in fields(Split)]
    table = _table(f"where the time goes ({unit.name}, predicted > measured)", "", *names, "step")
    for name, (predicted, measured) in splits.items():
        if name == PATH:
            table.add_section()
        pairs = [(getattr(predicted, n), getattr(measured, n)) for n in names]
        pairs.append((predicted.total, measured.total))
        table.add_row(name, *(f"{unit.text(p)} > {unit.text(m)}" for p, m in pairs))
    predicted, measured = splits[PATH]
    errors = [getattr(predicted, n) - getattr(measured, n) for n in names]
    table.add_row("its error", *map(unit.signed, (*errors, sum(errors))))
    return table


def _family_table(rows: Sequence[Family], unit: Unit) -> Table:
    """A line for each family of ops, and one for those that are not shown."""
    title = f"by op family, all devices ({unit.name})"
    table = _table(title, "family", "kind", "ops", "predicted", "measured", "error", "")
    table.columns[0].overflow = "fold"
    shown, others = list(rows[:SHOWN]), rows[SHOWN:]
    if others:
        rest = Pair(sum(r.time.predicted for r in others), sum(r.time.measured for r in others))
        shown.append(Family(f"{len(others)} more", "", sum(r.count for r in others), rest))
    for row in shown:
        table.add_row(row.name, row.kind, f"{row.count:,}" if row.count else "", *_pair_cells(row.time, unit))
    return table


def _worst_table(validation: Validation, unit: Unit) -> Table:
    title = f"the instructions that are the furthest off ({unit.name})"
    table = _table(title, "device", "instruction", "predicted", "measured", "error", "")
    table.columns[1].justify, table.columns[1].overflow = "left", "fold"
    for one in validation.worst():
        if one.measured is not None:
            table.add_row(one.device, one.what, *_pair_cells(Pair(one.predicted, one.measured), unit))
    return table


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="left" if name == "kind" else "right")
    return table


def _pair_cells(pair: Pair, unit: Unit) -> list[str]:
    relative = f"{pair.error / pair.measured:+.0%}" if pair.measured else "-"
    return [unit.text(pair.predicted), unit.text(pair.measured), unit.signed(pair.error), relative]
