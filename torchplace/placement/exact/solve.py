"""From a problem to a placement with an engine: quick solvers begin, local search goes on, then models are solved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from time import monotonic

from torchplace.errors import InfeasibleError
from torchplace.placement.coarse.levels import levels
from torchplace.placement.coarse.model import Coarse
from torchplace.placement.coarse.search import Budget
from torchplace.placement.coarse.search import Search as Descent
from torchplace.placement.coarse.state import State
from torchplace.placement.exact.engine import Engine
from torchplace.placement.exact.judge import Judge
from torchplace.placement.exact.model import Model
from torchplace.placement.exact.places import Places
from torchplace.placement.exact.search import Search
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.balanced import Balanced
from torchplace.placement.solvers.linear_dp import LinearDp
from torchplace.placement.solvers.pack import Limits, free_groups, pack, within_memory
from torchplace.placement.solvers.single import Single

_DESCENT = 3000
"""Placements that local search scores at most before models are solved."""
_SHARE = 0.3
"""Of the time that it has at most."""


def solve(problem: Problem, who: str, engine: Engine, *, seed: int, time_limit: float) -> dict[str, str]:
    """Place every op.

    The first placements are those of `single`, `balanced` and `linear-dp`; the best, by items (`coarse`), descends by
    local search; from there on an engine goes on. Of all placements on the way the best by `problem.evaluate` is taken.

    Args:
        problem: what to place, and where to.
        who: the solver's name, for errors.
        engine: solves models.
        seed: of all chance.
        time_limit: seconds, about.

    Raises:
        InfeasibleError: no placement that fits was found.
    """
    run = _Run(problem, engine, seed, monotonic() + time_limit)
    return within_memory(problem, who, run.attempt)


class _Run:
    def __init__(self, problem: Problem, engine: Engine, seed: int, until: float) -> None:
        self.problem, self.engine, self.seed, self.until = problem, engine, seed, until
        self.begun = monotonic()
        self.quick = _quick(problem)

    def attempt(self, limits: Limits) -> Mapping[str, str] | None:
        """The best placement within limits; None where none is found."""
        problem = self.problem
        starts = [placement for placement in self.quick if problem.fits(placement, limits)]
        if len(problem.devices) == 1 or not free_groups(problem):
            return starts[0] if starts else None
        judge = Judge(problem)
        for placement in starts:
            judge.hear(placement)
        self._improve(judge, starts, limits)
        return judge.best

    def _improve(self, judge: Judge, starts: Sequence[Mapping[str, str]], limits: Limits) -> None:
        coarse = Coarse.of(self.problem, self.engine.items)
        state = self._begin(coarse, [*starts, pack(self.problem, limits)], list(limits.values()))
        if state is None:
            return
        descent = Descent(state, self.seed)
        seconds = _SHARE * (self.until - monotonic())
        descent.descend(levels(coarse, 4 * len(coarse.devices)), Budget(monotonic() + seconds, _DESCENT))
        descent.restart(descent.best)

        def tell(placed: Sequence[int]) -> None:
            judge.hear(coarse.place(placed))

        tell(state.placed)
        Search(self.engine, state, seed=self.seed, until=self.until, tell=tell).run(self.engine.effort)

    def _begin(self, coarse: Coarse, starts: Sequence[Mapping[str, str]], limits: Sequence[int]) -> State | None:
        """The best of some placements as a state, or else any that fits, if the engine finds one."""
        states = [State.of(coarse, coarse.placed(placement), limits) for placement in starts]
        best = min(states, key=lambda state: state.value if state.fits else inf)
        if best.fits:
            return best
        free = [unit for unit in coarse.units if coarse.pinned[unit[0]] < 0]
        model = Model(1.0, self.engine.scale)
        places = Places(model, coarse, best.placed, free, range(len(coarse.devices)), limits)
        seconds = max(0.01, self.until - monotonic())
        outcome = self.engine.solve(model, seconds=seconds, effort=10 * self.engine.effort, seed=self.seed)
        found = [State.of(coarse, places.chosen(values), limits) for values in outcome.solutions[-1:]]
        return found[0] if found and found[0].fits else None


def _quick(problem: Problem) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for solver in (Single(), Balanced(), LinearDp()):
        try:
            found.append(solver.solve(problem))
        except InfeasibleError:
            continue
    return found
