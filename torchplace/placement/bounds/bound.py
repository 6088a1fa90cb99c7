"""A lower bound: seconds that nothing can beat, and the relaxation that they come from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Bound(NamedTuple):
    """What no placement can beat.

    Attributes:
        seconds: how long it takes at least.
        source: the relaxation that says so; "" where nothing takes any time.
    """

    seconds: float
    source: str = ""


NOTHING = Bound(0.0)
"""The bound that always holds."""

_ALIKE = 1e-9
"""Relative; a bound that is better by less is no better: the simpler one, which stands before it, is named."""


def strongest(bounds: Iterable[Bound]) -> Bound:
    """The largest of bounds that all hold; of equals, the first."""
    best = NOTHING
    for bound in bounds:
        if bound.seconds > best.seconds * (1 + _ALIKE):
            best = bound
    return best


def weakest(bounds: Iterable[Bound]) -> Bound:
    """The smallest of bounds of which one holds, nobody knows which; of equals, the first."""
    return min(bounds, key=lambda bound: bound.seconds, default=NOTHING)


def total(bounds: Iterable[Bound]) -> Bound:
    """The bound of what is done one after the other."""
    several = list(bounds)
    return Bound(sum(b.seconds for b in several), ", ".join(dict.fromkeys(b.source for b in several if b.source)))
