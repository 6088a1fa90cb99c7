"""The default: asks the quick solvers, searches on from the best of their placements, and takes the best predicted."""

from __future__ import annotations

import warnings
from time import monotonic
from typing import ClassVar

from torchplace.errors import InfeasibleError, OptionError
from torchplace.placement.evaluation import Evaluation
from torchplace.placement.problem import Problem
from torchplace.placement.progress import tell
from torchplace.placement.report.units import duration_text
from torchplace.placement.solvers.pack import failure, pack
from torchplace.placement.solvers.refine import Refinement

ALWAYS = ("single", "balanced", "linear-dp")
"""Asked and evaluated however short the time is."""
QUICK = ("memory-balanced", "m-etf", "heft")
"""Asked in this order while there is time, for one step: they take a part of it at most."""
QUICK_STEADY = ("memory-balanced", "ideal-dp")
"""The same for steady state, which list schedulers know nothing of."""
LARGE = 3000
"""Ops from which on `ideal-dp` is not quick."""
SEARCHES = ("local-search", "anneal", "slice-ga", "cp-sat", "milp")
"""Not asked: the refinement does what they do, from better placements."""
SLOW = ("min-cut", "kernighan-lin", "m-sct")
"""Not asked: seconds that the refinement needs more."""
LAST = ("memory-sequential", "round-robin", "random")
"""Asked where nothing that fits has been found."""
QUICK_SHARE = 0.25
"""Of the time, at most, before the search begins."""


class Auto:
    """A portfolio under one time limit: the best of all placements that were met, by `problem.evaluate`.

    Quick solvers are asked first. Then the problem is searched in few pieces, from coarse to fine, beginning at the
    best of their placements (`Refinement`), and what that finds is evaluated. So it is never worse than any solver that
    it asked. The order is fixed, and the earlier of equals is taken: where time does not run out, the answer depends on
    the seed alone. Interrupted (Ctrl-C), it answers with the best so far, if there is one.

    Limits: a solver that began is not interrupted, but is told how much time is left; so is an evaluation, which takes
    seconds where there are 100,000 ops. Other packages' solvers are asked after ours.
    """

    name: ClassVar[str] = "auto"
    chosen: str = ""
    """Whose placement the last answer was."""

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Ask the solvers in turn, and search.

        Raises:
            InfeasibleError: none of them found a placement that fits; says which device lacks how many bytes.
        """
        race = _Race(problem, seed, time_limit)
        try:
            self._run(race)
        except KeyboardInterrupt:
            if race.best is None:
                raise
            tell("interrupted: the best so far is taken")
        self.chosen = race.chosen
        return race.winner()

    def _run(self, race: _Race) -> None:
        for name in ALWAYS:
            race.ask(name)
        if len(race.problem.devices) == 1:
            return
        for name in (*_others(), *_quick(race.problem)):
            if race.left() - race.longest <= (1 - QUICK_SHARE) * race.seconds:
                break
            race.ask(name)
        race.refine()
        for name in LAST if race.best is None else ():
            race.ask(name)


def _quick(problem: Problem) -> tuple[str, ...]:
    if not problem.steady:
        return QUICK
    return tuple(name for name in QUICK_STEADY if name != "ideal-dp" or len(problem.ops) < LARGE)


def _others() -> list[str]:
    """Other packages' solvers."""
    from torchplace.placement.solvers.registry import solver_names

    ours = (*ALWAYS, *QUICK, *QUICK_STEADY, *SEARCHES, *SLOW, *LAST, Auto.name)
    return [name for name in solver_names() if name not in ours]


class _Race:
    """The best placement so far, and why the others failed."""

    def __init__(self, problem: Problem, seed: int, seconds: float) -> None:
        self.problem, self.seed, self.seconds = problem, seed, seconds
        self.deadline = monotonic() + seconds
        self.best: tuple[float, dict[str, str]] | None = None
        self.seen: dict[tuple[str, ...], Evaluation] = {}
        self.met: list[tuple[float, dict[str, str]]] = []
        self.chosen = ""
        self.longest = 0.0  # seconds that an evaluation took
        self.reasons: list[str] = []
        self.errors: list[InfeasibleError] = []

    def left(self) -> float:
        return self.deadline - monotonic()

    def ask(self, name: str) -> None:
        from torchplace.placement.solvers.registry import get_solver

        try:
            solver = get_solver(name)
            share = max(0.0, min(self.left(), 0.1 * self.seconds))
            placement = solver.solve(self.problem, seed=self.seed, time_limit=share)
        except InfeasibleError as error:
            self.errors.append(error)
            return
        except OptionError as error:  # another package's solver is broken: the default has to work without it
            warnings.warn(str(error), stacklevel=4)
            return
        self.enter(name, placement)

    def refine(self) -> None:
        """Search on from the best placements, and evaluate what is found."""
        if self.left() <= self.longest:
            return
        starts = [placement for _, placement in sorted(self.met, key=lambda met: met[0])]
        refinement = Refinement(self.problem, starts, self.seed, self.seconds, self.deadline)
        while self.left() > self.longest and (found := refinement.next()):
            for placement in found:
                if self.left() > self.longest:
                    self.enter("search", placement)

    def enter(self, name: str, placement: dict[str, str]) -> None:
        """Evaluate a placement, and keep it if it is the best."""
        places = tuple(placement[op] for op in self.problem.ops)
        if places in self.seen:
            return
        begun = monotonic()
        evaluation = self.seen[places] = self.problem.evaluate(placement)
        self.longest = max(self.longest, monotonic() - begun)
        if not evaluation.feasible:
            self.reasons.append(evaluation.reason)
            return
        self.met.append((evaluation.value, placement))
        if self.best is None or evaluation.value < self.best[0]:
            self.best, self.chosen = (evaluation.value, placement), name
            tell(f"auto: {duration_text(evaluation.value)} by {name}, {max(0.0, self.left()):.0f} s left")

    def winner(self) -> dict[str, str]:
        if self.best is not None:
            return self.best[1]
        packed = pack(self.problem, self.problem.capacity)
        if not self.reasons and self.problem.fits(packed):
            raise self.errors[-1]  # its placements fit by what stays, but not while they run
        raise failure(self.problem, Auto.name, self.reasons)
