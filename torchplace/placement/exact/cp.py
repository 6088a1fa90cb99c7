"""CP-SAT (OR-Tools) as an engine."""

from __future__ import annotations

from ortools.sat.python import cp_model

from torchplace.placement.exact.engine import CLOSE, Outcome
from torchplace.placement.exact.model import YES, Linear, Model, Scale, Stay
from torchplace.placement.maxload.exact import run


class CpEngine:
    """Solves models by constraint programming with learned clauses (Stuckey, "Lazy clause generation", CPAIOR 2010).

    Limits: counts in whole steps: times are rounded down by a ten-millionth of the model's limit each. One core, so
    that the same effort always gives the same.
    """

    scale = Scale(1e7, True)
    items = 200
    largest = 320
    effort = 0.05
    takes_turns = True

    def solve(self, model: Model, *, seconds: float, effort: float, seed: int) -> Outcome:
        """See `Engine.solve`; the effort is CP-SAT's own measure of work."""
        stated = _Stated(model)
        seen = _Seen(stated.variables)
        solver, status = run(stated.model, seconds, seed, effort=effort, gap=CLOSE, seen=seen)
        if status == cp_model.INFEASIBLE:
            return Outcome([], model.limit * (1 - CLOSE), True)
        bound = solver.best_objective_bound / model.scale.steps * model.limit
        return Outcome(seen.solutions, bound, status == cp_model.OPTIMAL)


class _Seen(cp_model.CpSolverSolutionCallback):
    """Every solution on the way, each better than the one before."""

    def __init__(self, variables: list[cp_model.IntVar]) -> None:
        super().__init__()
        self._variables = variables
        self.solutions: list[list[float]] = []

    def on_solution_callback(self) -> None:
        self.solutions.append([float(self.value(variable)) for variable in self._variables])


class _Stated:
    """A model in CP-SAT's terms."""

    def __init__(self, model: Model) -> None:
        self.model = cp_model.CpModel()
        self.variables = [self.model.new_int_var(0, int(upper), "") for upper in model.upper]
        for choice in model.choices:
            self.model.add_exactly_one(self.variables[variable] for variable in choice)
        for row in model.rows:
            stated = self.model.add(self._sum(row.sum) <= 0)
            if row.given is not None:
                stated.only_enforce_if(self.variables[row.given])
        for stays in model.machines:
            self.model.add_no_overlap([self._interval(stay) for stay in stays if stay.steps >= 1])
        if model.goals:
            goal = cp_model.LinearExpr.sum([self.variables[goal] for goal in model.goals])
            self.model.add(goal <= int(model.scale.steps * (1 - CLOSE)))
            self.model.minimize(goal)
        for variable, hint in zip(self.variables, model.hint, strict=True):
            self.model.add_hint(variable, int(hint))

    def _sum(self, sum_: Linear) -> cp_model.LinearExprT:
        variables = [self.variables[variable] for variable, _ in sum_.terms]
        return cp_model.LinearExpr.weighted_sum(variables, [int(f) for _, f in sum_.terms]) + int(sum_.constant)

    def _interval(self, stay: Stay) -> cp_model.IntervalVar:
        start, steps = self.variables[stay.start], int(stay.steps)
        if stay.present == YES:
            return self.model.new_fixed_size_interval_var(start, steps, "")
        present = self.variables[stay.present.terms[0][0]]
        return self.model.new_optional_fixed_size_interval_var(start, steps, present, "")
