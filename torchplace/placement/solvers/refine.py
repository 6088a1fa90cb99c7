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

FEW = 0.4
"""Of the pieces that a problem is contracted to, at first."""
STARTS = 2
"""Placements that are searched on from."""
TURNS = 8
"""Searches, one after the other, that share the time; those of the last stage go on while they find something."""
SHARE = 0.25
"""Of the time: a turn scores as many placements as most machines do in it, so quick ones come to do all turns."""
BARREN = 20
"""Descents in a row, in one turn, without anything better."""
IDLE = 4
"""Turns in a row without anything better, after which a stage has nothing more to find."""
RUNNERS_UP, NEAR = 3, 0.04
"""Of a turn, also to be evaluated, and how much worse they may look: what is searched by is a quick model, and no more
precise than that."""


class Refinement:
    """Searches a problem in few pieces, from several placements; each turn gives some to be evaluated.

    Turns begin at each of the starts first, then at the best; after one of the best in vain, at a start again. Each has
    a share of the placements that may be scored, so the same is done again where time suffices. For the latency they
    are descents (`Search.iterate`), the first ones with fewer pieces, for a score takes the longer the more there are;
    for the throughput, annealing and descents in turn.

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
        self.problem, self.seed, self.seconds, self.until = problem, seed, seconds, until
        self.stages = (FEW, 1.0) if not problem.steady else (1.0,)
        self.each = TURNS // len(self.stages)  # turns of a stage
        self.found: list[Mapping[str, str]] = list(starts)
        self.stage = 0
        self._begin()

    def _begin(self) -> None:
        """Search the problem in so many pieces, a share of the most, from the best so far."""
        self.turn = self.idle = 0
        self.last: Search | None = None
        states = _states(self.problem, self.found, self.stages[self.stage])
        self.searches = [Search(state, 101 * self.seed + i) for i, state in enumerate(states)]
        self.begun = [list(state.placed) for state in states]
        coarse = self.searches[0].state.coarse if self.searches else None
        self.pieces = [] if coarse is None else levels(coarse, 4 * len(self.problem.devices))

    def next(self) -> list[dict[str, str]]:
        """Placements that the next turn finds, the best first; none where there is nothing to search, or no time."""
        last = self.stage == len(self.stages) - 1
        if not last and (self.turn == self.each or self.idle == IDLE):
            self._next_stage()
        elif self.idle == IDLE:
            return []
        if not self.pieces or monotonic() >= self.until:
            return []
        self.last = search = self._choose()
        before = min(search.value for search in self.searches)
        self._run(search)
        self.turn += 1
        self.idle = 0 if search.value < before * (1 - 1e-6) else self.idle + 1
        return [search.state.coarse.place(placed) for placed in (search.best, *search.runners_up(RUNNERS_UP, NEAR))]

    def _next_stage(self) -> None:
        ranked = sorted(self.searches, key=lambda search: search.value)
        self.found = [search.state.coarse.place(search.best) for search in ranked] + self.found
        self.stage += 1
        self._begin()

    def _run(self, search: Search) -> None:
        budget = Budget.of(search.state, SHARE * self.seconds, self._until())
        if self.problem.steady and self.turn % 2 == 0:
            units = self.pieces[-1]
            budget.placements = min(budget.placements, MOVES * len(units))
            search.anneal(units, budget, HEAT)
        else:
            search.iterate(self.pieces, budget, min(BARREN, len(self.pieces[-1])))

    def _choose(self) -> Search:
        """Each start has its turn; then the best goes on, and after a turn in which that is in vain, a start anew."""
        starts = len(self.begun)
        if self.turn < starts:
            return self.searches[self.turn]
        search = min(self.searches, key=lambda search: search.value)
        if not self.idle or self.last is not search:
            search.restart(search.best)
            return search
        number = self.turn // 2 % starts
        state = self.searches[number].state
        Search(state, 0).restart(self.begun[number])
        self.searches.append(Search(state, 101 * self.seed + self.turn))
        return self.searches[-1]

    def _until(self) -> float:
        """An equal part of what is left for each of the turns to come; for those beyond them all of it."""
        now = monotonic()
        to_come = max(1, self.each - self.turn) + self.each * (len(self.stages) - 1 - self.stage)
        return now + max(0.0, self.until - now) / to_come


def _states(problem: Problem, starts: Sequence[Mapping[str, str]], share: float) -> list[State]:
    """The starts in few pieces, with as much memory kept free for what comes and goes as they have."""
    coarse = contracted(problem, share)
    found: list[State] = []
    for reserve in RESERVES:
        limits = problem.limits(reserve)
        room = [limits[device] for device in coarse.devices]
        placed = {tuple(coarse.placed(placement)): None for placement in starts[: 2 * STARTS]}
        found = [state for state in (State.of(coarse, p, room) for p in placed) if state.fits][: STARTS - 1]
        if (made := start(problem, limits, share)) is not None:
            found.append(made)
        found.sort(key=lambda state: state.score)
        if found:
            break
    return found
