"""The default: asks every solver, and takes the placement that is predicted to be the fastest."""

from __future__ import annotations

import warnings
from time import monotonic
from typing import ClassVar

from torchplace.errors import InfeasibleError, OptionError
from torchplace.placement.evaluation import Evaluation
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.pack import failure, pack

ALWAYS = ("single", "balanced")
"""Asked and evaluated however short the time is."""
THEN = ("heft", "m-etf", "linear-dp", "memory-balanced", "memory-sequential", "round-robin", "random")
"""Asked while there is time, in this order; after them other packages' solvers, by name."""


class Auto:
    """The best of all solvers by `problem.evaluate`, never worse than any that it asked.

    The order is fixed, and the earlier of equals is taken: where time does not run out, the answer depends on
    the seed alone. A solver that began is not interrupted, but is told how much time is left.

    Limits: only as good as its members; nothing is searched yet.
    """

    name: ClassVar[str] = "auto"
    chosen: str = ""
    """Whose placement the last answer was."""

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Ask the solvers in turn.

        Raises:
            InfeasibleError: none of them found a placement that fits; says which device lacks how many bytes.
        """
        race = _Race(problem, seed, monotonic() + time_limit)
        for name in ALWAYS:
            race.ask(name)
        for name in (*THEN, *_others()):
            if race.left() <= 0:
                break
            race.ask(name)
        self.chosen = race.chosen
        return race.winner()


def _others() -> list[str]:
    from torchplace.placement.solvers.registry import solver_names

    return [name for name in solver_names() if name not in (*ALWAYS, *THEN, Auto.name)]


class _Race:
    """The best placement so far, and why the others failed."""

    def __init__(self, problem: Problem, seed: int, deadline: float) -> None:
        self.problem, self.seed, self.deadline = problem, seed, deadline
        self.best: tuple[float, dict[str, str]] | None = None
        self.seen: dict[tuple[str, ...], Evaluation] = {}
        self.chosen = ""
        self.reasons: list[str] = []
        self.errors: list[InfeasibleError] = []

    def left(self) -> float:
        return self.deadline - monotonic()

    def ask(self, name: str) -> None:
        from torchplace.placement.solvers.registry import get_solver

        try:
            solver = get_solver(name)
            placement = solver.solve(self.problem, seed=self.seed, time_limit=max(self.left(), 0.0))
        except InfeasibleError as error:
            self.errors.append(error)
            return
        except OptionError as error:  # another package's solver is broken: the default has to work without it
            warnings.warn(str(error), stacklevel=4)
            return
        self._enter(name, placement)

    def _enter(self, name: str, placement: dict[str, str]) -> None:
        places = tuple(placement[op] for op in self.problem.ops)
        if places in self.seen:
            return
        evaluation = self.seen[places] = self.problem.evaluate(placement)
        if not evaluation.feasible:
            self.reasons.append(evaluation.reason)
        elif self.best is None or evaluation.value < self.best[0]:
            self.best, self.chosen = (evaluation.value, placement), name

    def winner(self) -> dict[str, str]:
        if self.best is not None:
            return self.best[1]
        packed = pack(self.problem, self.problem.capacity)
        if not self.reasons and self.problem.fits(packed):
            raise self.errors[-1]  # its placements fit by what stays, but not while they run
        raise failure(self.problem, Auto.name, self.reasons)
