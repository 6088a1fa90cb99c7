"""Axes of charts: what they show, and which values on them are marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, floor, log10, sqrt
from typing import Any, NamedTuple

_WIDE = 10  # times the least: from there on an axis is logarithmic, if it may be either
_ROOM = 2  # times that a logarithmic axis is longer than what lies on it
_GAP = 2.5  # from a tick to the next, at most, among 1, 2 and 5 times 10^n


class Axis(NamedTuple):
    """What an axis shows.

    Attributes:
        log: whether it is logarithmic.
        low, high: its ends.
        ticks: values that are marked; none leaves it to who draws.
    """

    log: bool
    low: float
    high: float
    ticks: tuple[float, ...] = ()

    def options(self, text: Callable[[float], str]) -> dict[str, Any]:
        """As plotly takes them, with the ticks in words."""
        ends = [log10(end) if self.log else end for end in (self.low, self.high)]
        ticks = {"tickvals": list(self.ticks), "ticktext": [text(tick) for tick in self.ticks]} if self.ticks else {}
        return {"type": "log" if self.log else "linear", "range": ends, **ticks}


def log_axis(values: Sequence[float]) -> Axis:
    """A logarithmic axis for values above 0, none at its very ends; at least two of its ticks are marked."""
    middle = sqrt(min(values)) * sqrt(max(values))
    spread = max(_ROOM * max(values) / min(values), _GAP**2)
    low, high = middle / sqrt(spread), middle * sqrt(spread)
    steps = (1, 2, 5) if spread < 200 else (1,)
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    ticks = (float(f"{step}e{power}") for power in powers for step in steps)
    return Axis(True, low, high, tuple(tick for tick in ticks if low <= tick <= high))


def axis(values: Sequence[float]) -> Axis:
    """A linear axis for values above 0, or a logarithmic one where they are far apart."""
    low, high = min(values), max(values)
    if high > _WIDE * low:
        return log_axis(values)
    margin = max(0.15 * (high - low), 0.05 * high)
    return Axis(False, max(0.0, low - margin), high + margin)
