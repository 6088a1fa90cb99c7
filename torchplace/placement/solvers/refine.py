"""What `auto` does after it has asked others: searches on from their placements, in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic

from torchplace.placement.coarse.levels import levels
from torchplace.placement.coarse.search import Budget, Search
from torchplace.placement.coarse.state import State
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.anneal import HEAT, MOVES
from torchplace.placement.solvers.pack import RESERVES
from torchplace.placement.solvers.starts import contracted, start

STARTS = 3
"""Placements that are searched on from."""
TURNS = 12
"""Searches, one after the other."""
BARREN = 6
"""Descents in a row, in one turn, without anything better."""
IDLE = 4
"""Turns in a row without anything better, after which there is nothing to be found."""


class Refinement:
    """Searches a problem in few pieces, from several placements; each turn gives one to be evaluated.

    Turns go round the starts: descents (`Search.iterate`), then annealing from the best of them, then descents again.
    Each has its share of the placements that may be scored, so the same is done again where time suffices.

    Args:
        problem: what is placed.
        starts: placements that fit, the best first; one is made if there is none.
        seed: of the searches.
        seconds: for all turns.
        until: `time.monotonic` at which it ends.
    """

    def __init__(
        self, problem: Problem, starts: Sequence[Mapping[str, str]], seed: int, seconds: float, until: float
    ) -> None:
        self.problem, self.seconds, self.until = problem, seconds, until
        self.turn = self.idle = 0
        self.searches = [Search(state, seed + i) for i, state in enumerate(_states(problem, starts))]
        self.pieces = levels(self.searches[0].state.coarse, 4 * len(problem.devices)) if self.searches else []

    def next(self) -> dict[str, str] | None:
        """The placement that the next turn finds; None where there is nothing to search, or no time."""
        if not self.pieces or self.turn >= TURNS or self.idle >= IDLE or monotonic() >= self.until:
            return None
        search = self._choose()
        before = search.value
        budget = Budget.of(search.state, self.seconds / TURNS, self._until())
        if self.turn % 4 == 3:
            units = self.pieces[(self.turn // 4) % len(self.pieces)]
            budget.placements = min(budget.placements, MOVES * len(units))
            search.anneal(units, budget, HEAT)
        else:
            search.iterate(self.pieces, budget, min(BARREN, len(self.pieces[-1])))
        self.turn += 1
        self.idle = 0 if search.value < before else self.idle + 1
        return search.state.coarse.place(search.best)

    def _choose(self) -> Search:
        """Each start has its turn; then mostly the best goes on."""
        if self.turn < len(self.searches):
            return self.searches[self.turn]
        ranked = sorted(self.searches, key=lambda search: search.value)
        search = ranked[(0, 0, 1)[self.turn % 3] % len(ranked)]
        search.restart(search.best)
        if self.turn % 4 != 3:
            search.kick(self.pieces[min(1, len(self.pieces) - 1)])
        return search

    def _until(self) -> float:
        now = monotonic()
        return now + max(0.0, self.until - now) / (TURNS - self.turn)


def _states(problem: Problem, starts: Sequence[Mapping[str, str]]) -> list[State]:
    """The starts in few pieces, with as much memory kept free for what comes and goes as they have."""
    coarse = contracted(problem)
    found: list[State] = []
    for reserve in RESERVES:
        limits = problem.limits(reserve)
        room = [limits[device] for device in coarse.devices]
        placed = {tuple(coarse.placed(placement)): None for placement in starts[: 2 * STARTS]}
        found = [state for state in (State.of(coarse, p, room) for p in placed) if state.fits][:STARTS]
        if not found and (made := start(problem, limits)) is not None:
            found = [made]
        if found:
            break
    return found
