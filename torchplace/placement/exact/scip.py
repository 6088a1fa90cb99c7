"""SCIP (by MathOpt of OR-Tools) as an engine."""

from __future__ import annotations

from datetime import timedelta

from ortools.math_opt.python import mathopt  # type: ignore[import-untyped]

from torchplace.placement.exact.engine import CLOSE, Outcome
from torchplace.placement.exact.model import Linear, Model, Scale

_NODES = 1000
"""Nodes of the search tree for one of effort."""
_NONE = (mathopt.TerminationReason.INFEASIBLE, mathopt.TerminationReason.INFEASIBLE_OR_UNBOUNDED)


class ScipEngine:
    """Solves models by branch and cut (Achterberg, "SCIP: solving constraint integer programs", 2009).

    Limits: machines, and rows that hold only at times, are left out: their big-M rows say next to nothing to a linear
    program. The effort is counted in nodes, which is no measure of how long each takes.

    HiGHS 1.12, which the same wheel brings, is as quick, but writes to the standard output of the process.
    """

    scale = Scale(1000.0, False)
    items = 200
    largest = 160
    effort = 0.05
    takes_turns = False

    def solve(self, model: Model, *, seconds: float, effort: float, seed: int) -> Outcome:
        """See `Engine.solve`."""
        stated = _Stated(model)
        parameters = mathopt.SolveParameters(
            time_limit=timedelta(seconds=seconds),
            node_limit=max(1, int(effort * _NODES)),
            relative_gap_tolerance=CLOSE,
            threads=1,
            random_seed=seed,
        )
        hints = mathopt.ModelSolveParameters(solution_hints=[stated.hint(model.hint)])
        result = mathopt.solve(stated.model, mathopt.SolverType.GSCIP, params=parameters, model_params=hints)
        reason = result.termination.reason
        if reason in _NONE:
            return Outcome([], model.limit, True)
        bound = min(model.limit, result.dual_bound() / model.scale.steps * model.limit)
        return Outcome(stated.solutions(result), bound, reason == mathopt.TerminationReason.OPTIMAL)


class _Stated:
    """A model in MathOpt's terms."""

    def __init__(self, model: Model) -> None:
        self.model = mathopt.Model()
        binary = {variable for choice in model.choices for variable in choice}
        self.variables = [
            self.model.add_variable(lb=0.0, ub=upper, is_integer=number in binary)
            for number, upper in enumerate(model.upper)
        ]
        for choice in model.choices:
            chosen = mathopt.fast_sum(self.variables[variable] for variable in choice)
            self.model.add_linear_constraint(lb=1.0, ub=1.0, expr=chosen)
        for row in model.rows:
            if row.given is None:
                self.model.add_linear_constraint(ub=-row.sum.constant, expr=self._sum(row.sum))
        self.model.minimize(mathopt.fast_sum(self.variables[goal] for goal in model.goals))

    def _sum(self, sum_: Linear) -> mathopt.LinearSum:
        return mathopt.fast_sum(factor * self.variables[variable] for variable, factor in sum_.terms)

    def hint(self, values: list[float]) -> mathopt.SolutionHint:
        """A solution to begin with."""
        return mathopt.SolutionHint(variable_values=dict(zip(self.variables, values, strict=True)))

    def solutions(self, result: mathopt.SolveResult) -> list[list[float]]:
        """What was found, the best last."""
        found = [s.primal_solution for s in result.solutions if s.primal_solution is not None]
        return [[s.variable_values[variable] for variable in self.variables] for s in reversed(found)]
