"""Plans of one case side by side: how good is `auto`, beside the others and beside what is possible?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

AUTO, USUAL = "auto", "memory-balanced"
CLASSICAL = ("balanced", "heft", "m-etf", "m-sct")
"""Published heuristics without a search, that need no time limit."""

BEST_TARGET, USUAL_TARGET, CLASSICAL_TARGET = 1.01, 0.8, 0.9
"""`auto` is to be at most that many times the best of all others, `memory-balanced`, and the best of `CLASSICAL`."""

Key = tuple[str, str, str]
"""Model, topology, objective."""


@dataclass(frozen=True)
class Result:
    """What one solver made of one case.

    Attributes:
        model, topology, objective, solver: what was asked.
        value: seconds that the plan is predicted to take, of what the objective says; None where there is no plan.
        bound: seconds that no plan can beat; 0 where there is no plan.
        title: the solver, and of one that asks others whose answer it took.
        devices: on which the plan has ops.
        seconds: that planning took.
        reason: why there is no plan.
    """

    model: str
    topology: str
    objective: str
    solver: str
    value: float | None
    bound: float = 0.0
    title: str = ""
    devices: int = 0
    seconds: float = 0.0
    reason: str = ""

    @property
    def key(self) -> Key:
        """The case that it belongs to."""
        return self.model, self.topology, self.objective


@dataclass
class Case:
    """One model on one topology for one objective.

    Attributes:
        key: which case it is.
        results: solver -> what it made of it.
    """

    key: Key
    results: dict[str, Result] = field(default_factory=dict)

    def value(self, *solvers: str) -> float:
        """The smallest value of some solvers; infinite where none of them has a plan."""
        found = (self.results[s].value for s in solvers if s in self.results)
        return min((v for v in found if v is not None), default=math.inf)

    @property
    def auto(self) -> float:
        """Seconds of the default solver's plan."""
        return self.value(AUTO)

    @property
    def others(self) -> tuple[str, ...]:
        """All solvers but the default."""
        return tuple(s for s in self.results if s != AUTO)

    @property
    def best(self) -> str:
        """The best of the others; "" where none has a plan."""
        best = min(self.others, key=self.value, default="")
        return best if best and self.value(best) < math.inf else ""

    @property
    def fits(self) -> bool:
        """Whether any solver has a plan."""
        return self.value(*self.results) < math.inf

    @property
    def bound(self) -> float:
        """Seconds that no plan can beat."""
        return max((r.bound for r in self.results.values()), default=0.0)

    @property
    def gap(self) -> float:
        """How far the default solver's plan is from the bound at most: 0.25 is a quarter above it."""
        return self.auto / self.bound - 1 if self.bound else math.inf

    def ratio(self, *solvers: str, of: float | None = None) -> float | None:
        """The default's value (or another one) over the best of some solvers'; None where those have no plan.

        Infinite where they have one and the default has none.
        """
        reference = self.value(*solvers)
        return (self.auto if of is None else of) / reference if reference < math.inf else None


def cases(results: Iterable[Result]) -> list[Case]:
    """Results by the case that they belong to, in the order in which cases are met."""
    found: dict[Key, Case] = {}
    for result in results:
        found.setdefault(result.key, Case(result.key)).results[result.solver] = result
    return list(found.values())


RATIOS: dict[str, Callable[[Case], float | None]] = {
    "auto/best": lambda case: case.ratio(*case.others),
    "auto/usual": lambda case: case.ratio(USUAL),
    "bound/usual": lambda case: case.ratio(USUAL, of=case.bound),
    "auto/classical": lambda case: case.ratio(*CLASSICAL),
    "bound/classical": lambda case: case.ratio(*CLASSICAL, of=case.bound),
}
"""What the tables show of a case; those of the bound are the best that could be."""

TARGETS = {
    "auto/best": (BEST_TARGET, None),
    "auto/usual": (USUAL_TARGET, "bound/usual"),
    "auto/classical": (CLASSICAL_TARGET, "bound/classical"),
}
"""Ratio -> what it should be at most, and which ratio is the best that it could be."""


def geometric_mean(values: Sequence[float]) -> float | None:
    """The geometric mean; None of nothing, infinite if one is."""
    if not values:
        return None
    if math.inf in values:
        return math.inf
    return math.exp(math.fsum(math.log(v) for v in values) / len(values)) if min(values) > 0 else 0.0


def mean(name: str, over: Iterable[Case]) -> float | None:
    """The geometric mean of a ratio, over the cases that have it."""
    return geometric_mean([r for case in over if (r := RATIOS[name](case)) is not None])


def verdict(case: Case, name: str) -> str:
    """What a case makes of a target: `met`, `missed`, `out of reach` (no plan can meet it), or `no plan to beat`."""
    target, possible = TARGETS[name]
    ratio = RATIOS[name](case)
    if ratio is None:
        return "no plan to beat"
    if ratio <= target:
        return "met"
    least = None if possible is None else RATIOS[possible](case)
    return "out of reach" if least is not None and least > target else "missed"
