"""Figures and lists of names as drawings print them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_NUMBERED = re.compile(r"(.*?)([0-9]+)")
_FEWEST = 3  # names in a run that are drawn together


def rate(bandwidth: float) -> str:
    """Bytes/s for people: "12 GB/s", "3.35 TB/s"."""
    for unit, size in (("TB/s", 1e12), ("GB/s", 1e9), ("MB/s", 1e6)):
        if float(f"{bandwidth:.3g}") >= size:
            return f"{three(bandwidth / size)} {unit}"
    return f"{three(bandwidth / 1e3)} kB/s"


def three(number: float) -> str:
    """Three digits, and never an exponent for what is large."""
    return f"{number:.3g}" if number < 999.5 else f"{number:,.0f}"


def names_text(names: Sequence[str]) -> str:
    """Names in order, neighbours that count up drawn together: "gpu:0..gpu:7, nvswitch"."""
    return ", ".join(f"{run[0]}..{run[-1]}" if len(run) >= _FEWEST else ", ".join(run) for run in _runs(names))


def _runs(names: Sequence[str]) -> Iterable[list[str]]:
    run: list[str] = []
    for name in names:
        if run and not _follows(run[-1], name):
            yield run
            run = []
        run.append(name)
    if run:
        yield run


def _follows(one: str, other: str) -> bool:
    first, second = _NUMBERED.fullmatch(one), _NUMBERED.fullmatch(other)
    if first is None or second is None:
        return False
    return first[1] == second[1] and int(second[2]) == int(first[2]) + 1


def counted(number: int, noun: str) -> str:
    """A number and its noun: "1 switch", "8 devices"."""
    plural = "" if number == 1 else "es" if noun.endswith(("ch", "x")) else "s"
    return f"{number:,} {noun}{plural}"


def columns(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Rows of cells as lines, aligned to the left but for the columns in `right`."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    flush = set(right)
    return [
        "  ".join(
            cell.rjust(width) if position in flush else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
