"""anneal: a random walk over placements that grows ever more choosy."""

from __future__ import annotations

from time import monotonic
from typing import ClassVar

from torchplace.placement.coarse.levels import levels
from torchplace.placement.coarse.search import Budget, Search
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.pack import Limits, within_memory
from torchplace.placement.solvers.starts import start

HEAT = 0.05
"""At first, a rise of the score by this part is accepted one time in e."""
MOVES = 300
"""For each unit, at most: after so many all is cold."""


class Anneal:
    """Simulated annealing over the problem contracted to some 400 items, from coarse pieces to fine ones.

    Kirkpatrick, Gelatt and Vecchi, "Optimization by simulated annealing" (Science 220, 1983); moves and costs are those
    of `local-search`. The temperature falls with the square of what is left of the time, on each level anew.

    Limits: as of `local-search`. Uses the seed, and all of the time that it is given on all but small problems.
    """

    name: ClassVar[str] = "anneal"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Search.

        Raises:
            InfeasibleError: no placement that fits was found.
        """
        until = monotonic() + time_limit
        return within_memory(problem, self.name, lambda limits: _search(problem, limits, seed, time_limit, until))


def _search(problem: Problem, limits: Limits, seed: int, seconds: float, until: float) -> dict[str, str] | None:
    state = start(problem, limits)
    if state is None:
        return None
    pieces = levels(state.coarse, 4 * len(problem.devices)) if len(problem.devices) > 1 else []
    search = Search(state, seed)
    for number, units in enumerate(pieces, 1):
        share = 0.7 if number == len(pieces) else 0.2 / (len(pieces) - 1)  # most where most is decided
        budget = Budget.of(state, share * seconds, until)
        budget.placements = min(budget.placements, MOVES * len(units))
        search.restart(search.best)
        search.anneal(units, budget, HEAT)
    search.restart(search.best)
    search.descend(pieces[-1:], Budget.of(state, 0.1 * seconds, until))
    return state.coarse.place(search.best)
