"""local-search: moves that help, from large pieces to single ops, over and over from a shaken best."""

from __future__ import annotations

from time import monotonic
from typing import ClassVar

from torchplace.placement.coarse.levels import levels
from torchplace.placement.coarse.search import Budget, Search
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.pack import Limits, within_memory
from torchplace.placement.solvers.starts import start

BARREN = 30
"""Descents in a row without anything better, after which it ends: fewer where there is less to move."""


class LocalSearch:
    """Iterated local search over the problem contracted to some 400 items.

    Lourenço, Martin and Stützle, "Iterated local search" (Handbook of Metaheuristics, 2003), section 2; from coarse to
    fine as multilevel partitioners do it (Hendrickson and Leland, "A multilevel algorithm for partitioning graphs",
    SC 1995). A move takes a unit from the critical path, or from the busiest device or link, to where a neighbour is,
    or anywhere; now and then its neighbours come along, or something goes back. What a placement costs is told by a
    quick schedule of the items (`coarse.Clock`), or by the load of devices and links (`coarse.Loads`).

    Limits: a local optimum of the contracted problem, as the quick model has it. Uses the seed, and the time that it is
    given unless 30 descents in a row find nothing better. Cost: near-linear in the ops; then for each placement
    O(items log items) for the latency, and what the values of the moved items cross for the throughput.
    """

    name: ClassVar[str] = "local-search"

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
    pieces = levels(state.coarse, 4 * len(problem.devices))
    search = Search(state, seed)
    if pieces and len(problem.devices) > 1:
        search.iterate(pieces, Budget.of(state, seconds, until), min(BARREN, len(pieces[-1])))
    return state.coarse.place(search.best)
