"""Lower bounds of the largest load, from relaxations that are solved.

A largest load is guessed, as in Archer et al. (2024), and it is asked whether devices with no more than that can hold
everything. Each item is given a worth; no device can hold more worth than the most that any set of items with a load
within the guess has. If all devices together cannot hold the worth of all items, the guess is too low. Worths are found
by column generation (Gilmore and Gomory, "A linear programming approach to the cutting-stock problem", Operations
Research 9, 1961): they are the duals of a covering problem over the sets met so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from ortools.sat.python import cp_model
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import block_diag, coo_array, eye_array, hstack

from torchplace.placement.maxload.exact import SOLVED, run
from torchplace.placement.maxload.frontier import Frontier
from torchplace.placement.maxload.kernel import Kernel, kernel
from torchplace.placement.maxload.problem import Flags, Floats, LoadProblem

_STEPS = 10**7
"""Into so many steps a load is divided: CP-SAT counts in whole numbers."""
_FINE = 1e-3  # relative; nearer to each other bounds are not brought
_SLACK = 1e-6  # relative; rounding is on the safe side already


def balance(problem: LoadProblem) -> float:
    """The largest load if items could be divided at will, and values cost nothing: a linear program."""
    used = [k for k, kind in enumerate(problem.kinds) if kind.number]
    kinds, items = len(used), problem.count
    time = problem.time[used]
    barred = ~np.isfinite(time)
    numbers = np.array([[-problem.kinds[k].number] for k in used], dtype=float)
    covers = hstack([*[eye_array(items)] * kinds, coo_array((items, 1))])
    loads = hstack([block_diag([row[None, :] for row in np.where(barred, 0.0, time)]), coo_array(numbers)])
    found = milp(
        np.append(np.zeros(kinds * items), 1.0),
        constraints=[LinearConstraint(covers, 1.0, 1.0), LinearConstraint(loads, -np.inf, 0.0)],
        bounds=Bounds(0.0, np.append(np.where(barred, 0.0, 1.0).ravel(), np.inf)),
    )
    largest = float(np.min(np.where(barred, np.inf, time), axis=0).max(initial=0.0))
    return max(largest, found.fun * (1 - 1e-9)) if found.fun is not None else largest


@dataclass
class Guess:
    """Whether devices with a load within a guess can hold everything.

    Attributes:
        problem: the kernel for the guess.
        limit: the guess.
        sets: for each kind of device, sets of items to begin with, and those met so far.
    """

    problem: LoadProblem
    limit: float
    sets: list[list[Flags]]
    _frontiers: dict[int, Frontier] = field(default_factory=dict)

    def refuted(self, until: float) -> bool:
        """Whether it was proved that the guess is too low; False also where the time is over (`perf_counter`)."""
        problem = self.problem
        fits = np.where(problem.time <= self.limit, problem.time, np.inf)
        if not np.all(np.isfinite(fits).any(axis=0)):
            return True
        worth: Floats | None = np.min(fits, axis=0)
        if any(self.sets):
            worth = self._worths()
        while worth is not None and perf_counter() < until:
            most, grown = 0.0, False
            for k, kind in enumerate(problem.kinds):
                if not kind.number:
                    continue
                bound, found = self._dearest(k, worth, until)
                most += kind.number * bound
                known = max((worth[s].sum() for s in self.sets[k]), default=0.0)
                if found is not None and worth[found].sum() > known * (1 + 1e-7):
                    self.sets[k].append(found)
                    grown = True
            if most * (1 + _SLACK) < worth.sum():
                return True
            worth = self._worths() if grown else None
        return False

    def _worths(self) -> Floats | None:
        """Worths for which the sets so far hold least; None where they hold everything."""
        problem = self.problem
        kinds, items = len(problem.kinds), problem.count
        rows = []
        for k in range(kinds):
            for chosen in (np.zeros(items, dtype=bool), *self.sets[k]):
                row = np.zeros(items + kinds)
                row[:items], row[items + k] = chosen, -1.0
                rows.append(row)
        usual = np.min(np.where(np.isfinite(problem.time), problem.time, np.inf), axis=0)
        usual = usual + 1e-3 * usual.mean()
        cost = np.concatenate([-np.ones(items), [kind.number for kind in problem.kinds]])
        bounds = [(0.0, 20 * u) for u in usual] + [(0.0, None)] * kinds
        total = np.concatenate([np.ones(items), np.zeros(kinds)])[None, :]
        found = linprog(
            cost, A_ub=np.array(rows), b_ub=np.zeros(len(rows)), A_eq=total, b_eq=[usual.sum()], bounds=bounds
        )
        if found.x is None or found.fun is None or found.fun >= -1e-7 * usual.sum():
            return None
        return np.asarray(found.x)[:items]

    def _dearest(self, kind: int, worth: Floats, until: float) -> tuple[float, Flags | None]:
        """(Bound of the worth that a device can hold within the limit, the set of most worth that was found)."""
        if not (self.problem.give[kind].any() or self.problem.take[kind].any()):
            return self._by_ratio(kind, worth)
        if kind not in self._frontiers:
            self._frontiers[kind] = Frontier(self.problem, kind, self.limit)
        frontier = self._frontiers[kind]
        return frontier.most(worth) if frontier.steps is not None else self._by_search(kind, worth, until)

    def _by_ratio(self, kind: int, worth: Floats) -> tuple[float, Flags]:
        """Where values cost nothing: the items of most worth for their time, the last of them in part."""
        time, room = self.problem.time[kind], self.limit
        found, most = np.zeros(self.problem.count, dtype=bool), 0.0
        for item in np.argsort(-worth / np.maximum(time, 1e-300), kind="stable"):
            if time[item] <= room:
                found[item] = True
                room, most = room - time[item], most + float(worth[item])
            elif time[item] <= self.limit:
                return most + float(worth[item] * room / time[item]), found
        return most, found

    def _by_search(self, kind: int, worth: Floats, until: float) -> tuple[float, Flags | None]:
        """As a model of CP-SAT."""
        problem, scale, price = self.problem, _STEPS / self.limit, _STEPS / max(float(worth.sum()), 1e-300)
        model = cp_model.CpModel()
        inside = [model.new_bool_var("") for _ in range(problem.count)]
        load = []
        for item, var in enumerate(inside):
            if problem.time[kind, item] > self.limit:
                model.add(var == 0)
            else:
                load.append(int(problem.time[kind, item] * scale) * var)
        for value in problem.values:
            source, targets = inside[value.source], [inside[t] for t in value.targets]
            ways = (
                (value.give[kind], [(source, target) for target in targets]),
                (value.take[kind], [(target, source) for target in targets]),
            )
            for cost, cases in ways:
                if cost:
                    pays = model.new_bool_var("")
                    load.append(int(cost * scale) * pays)
                    for one, other in cases:
                        model.add_bool_or([pays, one.negated(), other])
        model.add(sum(load) <= _STEPS)
        prices = np.ceil(worth * price).astype(int)
        model.maximize(sum(int(p) * var for p, var in zip(prices, inside, strict=True)))
        solver, status = run(model, max(0.05, until - perf_counter()))
        bound = solver.best_objective_bound / price
        if status not in SOLVED:
            return bound, None
        return bound, np.array([solver.boolean_value(var) for var in inside])


class Bounding:
    """Lower bounds of one problem, better with every call: sets that were met for one guess serve the next ones.

    Args:
        problem: what is to be placed.
        lower: a bound to begin with.
    """

    def __init__(self, problem: LoadProblem, lower: float) -> None:
        self.problem, self.lower = problem, lower
        self._sets: list[list[Flags]] = [[] for _ in problem.kinds]

    def tell(self, lower: float) -> None:
        """Take over a bound that was proved elsewhere."""
        self.lower = max(self.lower, lower)

    def raise_towards(self, upper: float, seconds: float) -> float:
        """Raise the bound, by bisection, towards a largest load that is reached.

        Args:
            upper: a largest load that some placement has.
            seconds: for how long.
        """
        end, high = perf_counter() + seconds, upper
        while high - self.lower > _FINE * upper and perf_counter() < end:
            guess = (self.lower + high) / 2
            until = min(end, perf_counter() + 0.4 * (end - perf_counter()) + 0.1)
            if self._refuted(guess, until):
                self.lower = guess
            else:
                high = guess
        return self.lower

    def _refuted(self, guess: float, until: float) -> bool:
        small = kernel(self.problem, guess, until=lambda: perf_counter() > until)
        sets = [list(self._fitting(kind, guess, small)) for kind in range(len(self.problem.kinds))]
        asked = Guess(small.problem, guess, sets)
        known = [len(sets) for sets in asked.sets]
        refuted = asked.refuted(until)
        for mine, met, count in zip(self._sets, asked.sets, known, strict=True):
            mine += [chosen[small.part_of] for chosen in met[count:]]
        return refuted

    def _fitting(self, kind: int, guess: float, small: Kernel) -> Iterator[Flags]:
        """The sets met so far that are within the guess, and do not separate what it joins."""
        for chosen in self._sets[kind]:
            parts = chosen[small.first]
            if np.array_equal(parts[small.part_of], chosen) and load_of(self.problem, kind, chosen) <= guess:
                yield parts


def load_of(problem: LoadProblem, kind: int, chosen: Flags) -> float:
    """The load of a device of a kind that has a set of items, and nothing else."""
    value, target = problem.pairs
    made, taken = chosen[problem.sources[value]], chosen[target]
    give, take = np.unique(value[made & ~taken]), np.unique(value[taken & ~made])
    return float(problem.time[kind][chosen].sum() + problem.give[kind][give].sum() + problem.take[kind][take].sum())
