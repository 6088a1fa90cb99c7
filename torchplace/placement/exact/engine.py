"""Who solves models: what is asked of an engine, and what it answers."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torchplace.placement.exact.model import Model, Scale

CLOSE = 1e-4
"""What is quicker by a smaller part counts as equal: no cost is known as well as that."""


class Outcome(NamedTuple):
    """What an engine found.

    Attributes:
        solutions: values of all variables, the best last; none where none was found.
        bound: seconds; no solution has a lower sum of goals. Never more than the model's limit.
        ended: the last solution is the best there is, but for `CLOSE`, or there is none at all.
    """

    solutions: list[list[float]]
    bound: float
    ended: bool


class Engine(Protocol):
    """Solves models.

    Attributes:
        scale: how it counts time.
        items: into about so many a problem's ops are joined.
        largest: a problem of at most so many units times devices is worth solving as a whole.
        effort: worth spending on a neighbourhood.
        takes_turns: whether machines, and rows that hold only at times, are heeded; else the model is a relaxation.
    """

    scale: Scale
    items: int
    largest: int
    effort: float
    takes_turns: bool

    def solve(self, model: Model, *, seconds: float, effort: float, seed: int) -> Outcome:
        """Search for a while.

        Args:
            model: what to solve.
            seconds: for how long at most.
            effort: how much work at most, in about seconds of a quick machine; where it ends before the time does, the
                outcome is always the same.
            seed: of the search.
        """
