"""A mixed-integer model as plain lists, for whichever engine is to solve it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import floor
from typing import NamedTuple


class Linear(NamedTuple):
    """A sum of variables, each times a number, and a constant.

    Attributes:
        terms: (variable, factor).
        constant: what is added.
    """

    terms: tuple[tuple[int, float], ...] = ()
    constant: float = 0.0

    def times(self, factor: float) -> Linear:
        """All of it, so many times."""
        return Linear(tuple((var, c * factor) for var, c in self.terms if c * factor), self.constant * factor)

    def value(self, values: Sequence[float]) -> float:
        """What it is for values of all variables."""
        return self.constant + sum(factor * values[var] for var, factor in self.terms)


NO, YES = Linear(), Linear(constant=1.0)
"""What is known not to be so, and what is."""


def one(variable: int) -> Linear:
    """A variable alone."""
    return Linear(((variable, 1.0),))


def total(parts: Iterable[Linear]) -> Linear:
    """The sum of some sums, each variable once."""
    terms: dict[int, float] = {}
    constant = 0.0
    for part in parts:
        constant += part.constant
        for var, factor in part.terms:
            terms[var] = terms.get(var, 0.0) + factor
    return Linear(tuple(terms.items()), constant)


class Row(NamedTuple):
    """A sum that is 0 or less; only where a binary variable is 1, if there is one."""

    sum: Linear
    given: int | None = None


class Stay(NamedTuple):
    """What keeps a machine from a start on, for some steps: always (`present` is `YES`), or if a variable is 1."""

    start: int
    steps: float
    present: Linear


class Scale(NamedTuple):
    """How an engine counts.

    Attributes:
        steps: into so many the longest time that is of interest is divided.
        whole: whether all numbers must be integers; times are rounded down then, so that a bound stays one.
    """

    steps: float
    whole: bool


class Model:
    """Variables, and what must hold of them; the sum of the goals is to be small.

    Attributes:
        limit: seconds; nothing longer is of interest.
        scale: how it counts them.
        upper: of each variable; 0 is the least.
        hint: a value of each, from a placement that is known.
        choices: variables that are 0 or 1, of which exactly one is 1.
        rows: what must hold.
        machines: each does one thing after the other; a model without them is a relaxation.
        goals: the variables whose sum is to be small.
    """

    def __init__(self, limit: float, scale: Scale) -> None:
        self.limit, self.scale = limit, scale
        self.upper: list[float] = []
        self.hint: list[float] = []
        self.choices: list[list[int]] = []
        self.rows: list[Row] = []
        self.machines: list[list[Stay]] = []
        self.goals: list[int] = []

    def steps(self, seconds: float) -> float:
        """Seconds in steps."""
        steps = seconds / self.limit * self.scale.steps
        return floor(steps) if self.scale.whole else steps

    def seconds(self, values: Sequence[float]) -> float:
        """The sum of the goals for values of all variables."""
        return sum(values[goal] for goal in self.goals) / self.scale.steps * self.limit

    def choice(self, hints: Iterable[bool]) -> list[int]:
        """New variables that are 0 or 1, of which exactly one is 1."""
        found = [self._add(1.0, float(hint)) for hint in hints]
        self.choices.append(found)
        return found

    def flag(self) -> int:
        """A new variable from 0 to 1 that rows push up, and nothing else: 0 or 1 where it matters."""
        return self._add(1.0, 0.0)

    def time(self, hint: float = 0.0) -> int:
        """A new variable that counts steps."""
        return self._add(self.scale.steps, self.steps(hint))

    def _add(self, upper: float, hint: float) -> int:
        self.upper.append(upper)
        self.hint.append(hint)
        return len(self.upper) - 1

    def at_most(self, sum_: Linear, most: float) -> None:
        """A sum is no more than a number."""
        self.rows.append(Row(total((sum_, Linear(constant=-most)))))

    def at_least(self, var: int, least: Linear, given: Linear = YES) -> None:
        """A variable is at least a sum, where something that is `NO`, `YES` or one variable is so; the hint too."""
        if given == NO:
            return
        row = total((least, Linear(((var, -1.0),))))
        self.rows.append(Row(row, given.terms[0][0] if given.terms else None))
        if given.value(self.hint) >= 1:
            self.hint[var] = max(self.hint[var], least.value(self.hint))

    def any_of(self, cases: Sequence[tuple[Linear, Linear]]) -> Linear:
        """`NO`, `YES` or a variable: at least 1 where in some case two sums of 0 or 1 both are 1."""
        cases = [case for case in cases if NO not in case]
        if not cases or (YES, YES) in cases:
            return YES if cases else NO
        if len(cases) == 1 and YES in cases[0]:
            alone = cases[0][0] if cases[0][1] == YES else cases[0][1]
            if len(alone.terms) == 1:
                return alone
        flag = self.flag()
        for a, b in cases:
            self.at_least(flag, total((a, b, Linear(constant=-1.0))))
        return one(flag)
