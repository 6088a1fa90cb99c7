"""Max-load as a model of CP-SAT (OR-Tools): exact where it is small, or some items free and the others held."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import inf
from time import sleep
from typing import Any

import numpy as np
from ortools.sat.python import cp_model

from torchplace.placement.maxload.problem import Ints, LoadProblem

_STEPS = 10**8
"""Into so many steps a load is divided: CP-SAT counts in whole numbers."""

_SOON = 0.01  # seconds


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        placed: the best placement; None where there is none within the limits.
        bound: the least largest load that was not excluded.
        proved: the search came to its end.
    """

    placed: Ints | None
    bound: float
    proved: bool


def search(
    problem: LoadProblem,
    start: Ints,
    free: Collection[int],
    *,
    seconds: float,
    seed: int = 0,
    below: float | None = None,
) -> Found:
    """Place some items anew, the others where they are, so that the largest load is least.

    Args:
        problem: what to place.
        start: a placement; where the search begins.
        free: the items that may move.
        seconds: for how long, at most.
        seed: of the search.
        below: only placements with a largest load of less are of interest; by default that of `start`.

    Costs and sizes are rounded down, so that the bound is one; the placement's own load is to be computed exactly, and
    whether it fits.
    """
    limit = problem.max_load(start) if below is None else below
    return _Model(problem, start, sorted(free), limit).solve(seconds, seed)


class _Model:
    def __init__(self, problem: LoadProblem, start: Ints, free: list[int], limit: float) -> None:
        self.problem, self.start, self.limit = problem, start, limit
        self.scale = _STEPS / limit
        self.model = cp_model.CpModel()
        self.free = set(free)
        self.devices = range(len(problem.devices))
        self.terms: list[list[tuple[cp_model.IntVar, int]]] = [[] for _ in self.devices]
        self.fixed = [0] * len(problem.devices)
        self.at: dict[int, dict[int, cp_model.IntVar]] = {item: self._choice(item) for item in free}
        for item in set(range(problem.count)) - self.free:
            device = int(start[item])
            self.fixed[device] += self._steps(problem.time[problem.kind_of[device], item])
        for v in range(len(problem.values)):
            self._value(v)
        self._memory()
        self.load = self.model.new_int_var(0, _STEPS, "load")
        for device in self.devices:
            self.model.add(sum(cost * var for var, cost in self.terms[device]) + self.fixed[device] <= self.load)
        self.model.minimize(self.load)

    def _steps(self, seconds: float) -> int:
        return int(np.floor(seconds * self.scale))

    def _choice(self, item: int) -> dict[int, cp_model.IntVar]:
        """One device of those that can run the item within the limit."""
        problem, found = self.problem, {}
        for device in self.devices:
            time = problem.time[problem.kind_of[device], item]
            if time <= self.limit and problem.size[item] <= problem.capacity[device]:
                var = found[device] = self.model.new_bool_var("")
                self.terms[device].append((var, self._steps(time)))
                self.model.add_hint(var, int(self.start[item] == device))
        self.model.add_exactly_one(found.values())
        return found

    def _is_at(self, item: int, device: int) -> cp_model.IntVar | bool:
        if item in self.free:
            return self.at[item].get(device, False)
        return bool(self.start[item] == device)

    def _value(self, v: int) -> None:
        """A device that makes the value pays if some target is elsewhere; one that only takes it pays as well."""
        value, kinds = self.problem.values[v], self.problem.kind_of
        for device in self.devices:
            give, take = self._steps(value.give[kinds[device]]), self._steps(value.take[kinds[device]])
            source = self._is_at(value.source, device)
            targets = [self._is_at(target, device) for target in value.targets]
            if give and source is not False and not all(t is True for t in targets):
                self._pays(device, give, [(source, target) for target in targets if target is not True])
            if take and source is not True and any(t is not False for t in targets):
                self._pays(device, take, [(target, source) for target in targets if target is not False])

    def _pays(self, device: int, cost: int, cases: list[tuple[cp_model.IntVar | bool, cp_model.IntVar | bool]]) -> None:
        """A cost that a device has if, in one of the cases, the first is so and the second is not."""
        if any(one is True and other is False for one, other in cases):
            self.fixed[device] += cost
            return
        pays = self.model.new_bool_var("")
        self.terms[device].append((pays, cost))
        for one, other in cases:
            clause: list[cp_model.LiteralT] = [pays]
            if one is not True:
                assert not isinstance(one, bool)
                clause.append(one.negated())
            if other is not False:
                assert not isinstance(other, bool)
                clause.append(other)
            self.model.add_bool_or(clause)

    def _memory(self) -> None:
        """Rounded down, as times are: rounded up, items that fill a device to the brim would seem too much for it."""
        problem = self.problem
        for device in self.devices:
            capacity = problem.capacity[device]
            if not np.isfinite(capacity) or problem.size.sum() <= capacity:
                continue
            scale = _STEPS / max(capacity, 1.0)
            held = sum(problem.size[i] for i in range(problem.count) if i not in self.free and self.start[i] == device)
            sizes = [int(problem.size[item] * scale) * at[device] for item, at in self.at.items() if device in at]
            self.model.add(sum(sizes) <= _STEPS - int(held * scale))

    def solve(self, seconds: float, seed: int) -> Found:
        solver, status = run(self.model, seconds, seed)
        if status == cp_model.INFEASIBLE:
            return Found(None, self.limit, True)
        bound = solver.best_objective_bound / self.scale
        if status not in SOLVED:
            return Found(None, bound, False)
        placed = self.start.copy()
        for item, at in self.at.items():
            placed[item] = next(device for device, var in at.items() if solver.boolean_value(var))
        return Found(placed, bound, status == cp_model.OPTIMAL)


SOLVED = (cp_model.OPTIMAL, cp_model.FEASIBLE)
"""Outcomes that come with an answer."""


def run(
    model: cp_model.CpModel,
    seconds: float,
    seed: int = 0,
    *,
    effort: float = inf,
    gap: float = 0.0,
    seen: cp_model.CpSolverSolutionCallback | None = None,
) -> tuple[cp_model.CpSolver, Any]:
    """Let CP-SAT work on a model for some time, on one core; returns the solver and the outcome.

    Args:
        model: what to solve.
        seconds: of time, at most.
        seed: of the search.
        effort: of CP-SAT's deterministic time, at most: where it ends first, the outcome is always the same.
        gap: relative, between the answer and the bound, at which it ends.
        seen: is told of each solution.

    An interrupt ends it at once, and is raised. CP-SAT's own handling of it is off: it swallows an interrupt, and
    leaves the process without Python's handler, so that the next one kills it. Nor can Python raise anything as long as
    its main thread is in a call of C++, so that another thread makes the call.
    """
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.random_seed = seed
    solver.parameters.num_workers = 1
    solver.parameters.catch_sigint_signal = False
    solver.parameters.relative_gap_limit = gap
    if effort < inf:
        solver.parameters.max_deterministic_time = effort
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(solver.solve, model, seen)
        try:
            return solver, outcome.result()
        finally:
            while not outcome.done():  # once would not do: it may not have begun
                solver.stop_search()
                sleep(_SOON)
