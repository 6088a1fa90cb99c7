"""The judge: which of some placements is predicted to be the best."""

from __future__ import annotations

from collections.abc import Mapping

from torchplace.placement.problem import Problem


class Judge:
    """Evaluates placements, each once, and keeps the best that fits while it runs; the earlier of equals.

    What a search takes for equal, or for a little better, often is not: the coarse clock knows no sharing of links.

    Attributes:
        best: the best placement so far; None where none fits.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.best: Mapping[str, str] | None = None
        self._value = 0.0
        self._seen: set[tuple[str, ...]] = set()

    def hear(self, placement: Mapping[str, str]) -> None:
        """Consider one more placement. Cost: an evaluation."""
        key = tuple(placement[op] for op in self.problem.ops)
        if key in self._seen:
            return
        self._seen.add(key)
        evaluation = self.problem.evaluate(placement)
        if evaluation.feasible and (self.best is None or evaluation.value < self._value):
            self.best, self._value = placement, evaluation.value
