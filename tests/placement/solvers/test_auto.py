from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import FLOAT, Table, machine, problem
from torchplace.errors import InfeasibleError
from torchplace.placement.problem import Evaluation, Problem
from torchplace.placement.progress import listening
from torchplace.placement.solvers.auto import ALWAYS, QUICK, QUICK_STEADY, Auto
from torchplace.placement.solvers.registry import get_solver, solver_names

W = 4 * FLOAT


def watched(memory: list[int], score: Mapping[str, float]) -> tuple[Problem, list[dict[str, str]]]:
    """A chain of four whose placements cost what `score` says of the device of the last op; and all asked for."""
    asked: list[dict[str, str]] = []

    def evaluate(placement: Mapping[str, str]) -> Evaluation:
        asked.append(dict(placement))
        return Evaluation(score[placement["v3"]], {}, True)

    return problem(chain(4), machine(memory), evaluate=evaluate), asked


def test_the_members_are_among_ours() -> None:
    for quick in (QUICK, QUICK_STEADY):
        named = (*ALWAYS, *quick)
        assert {*named} <= set(solver_names()) - {Auto.name}
        assert len(named) == len({*named})


def test_the_best_prediction_wins() -> None:
    made, _ = watched([10**6] * 2, {"d0": 2.0, "d1": 1.0})
    assert Auto().solve(made) == get_solver("balanced").solve(made)
    made, _ = watched([10**6] * 2, {"d0": 1.0, "d1": 2.0})
    assert Auto().solve(made) == get_solver("single").solve(made)


def test_never_worse_than_a_member() -> None:
    made = problem(chain(6), machine([3 * W, 4 * W, 10**6], [1.0, 2.0, 3.0]))
    best = made.evaluate(Auto().solve(made, seed=5)).step_time
    for name in set(solver_names()) - {"auto"}:
        assert best <= made.evaluate(get_solver(name).solve(made, seed=5)).step_time


def test_the_earlier_of_equals_wins() -> None:
    made, _ = watched([10**6] * 2, {"d0": 1.0, "d1": 1.0})
    assert Auto().solve(made) == get_solver("single").solve(made)


def test_no_placement_is_evaluated_twice() -> None:
    made, asked = watched([10**6] * 2, {"d0": 1.0, "d1": 1.0})
    Auto().solve(made)
    assert len(asked) == len({tuple(placement.values()) for placement in asked}) >= 2


def test_without_time_the_simplest_are_still_asked() -> None:
    made, asked = watched([10**6] * 2, {"d0": 2.0, "d1": 1.0})
    assert Auto().solve(made, time_limit=0.0) == get_solver("balanced").solve(made)
    different = [get_solver(name).solve(made) for name in ALWAYS]
    assert asked == [p for i, p in enumerate(different) if p not in different[:i]]


def test_a_placement_that_does_not_run_is_not_taken() -> None:
    def evaluate(placement: Mapping[str, str]) -> Evaluation:
        spread = len(set(placement.values())) > 1
        return Evaluation(2.0 if spread else 1.0, {}, spread, "" if spread else "d0 lacks 5 bytes")

    made = problem(chain(4), machine([10**6] * 2), evaluate=evaluate)
    assert len(set(Auto().solve(made).values())) == 2


def test_nothing_runs() -> None:
    made = problem(chain(4), machine([10**6] * 2), evaluate=lambda _: Evaluation(1.0, {}, False, "d0 lacks 5 bytes"))
    with pytest.raises(InfeasibleError, match=r"solver 'auto' found no placement that fits while it runs; d0 lacks 5"):
        Auto().solve(made)


def test_nothing_runs_where_memory_is_short() -> None:
    made = problem(chain(4), machine([2 * W] * 2), evaluate=lambda _: Evaluation(1.0, {}, False, "d0 lacks 5 bytes"))
    with pytest.raises(InfeasibleError, match=r"found no placement that fits while it runs; d0 lacks 5 bytes"):
        Auto().solve(made)


def test_nothing_fits() -> None:
    made = problem(chain(4), machine([W] * 2))
    with pytest.raises(InfeasibleError, match=r"no placement fits: .* the 2 devices have 32 bytes; d0 lacks 16 bytes"):
        Auto().solve(made)


def test_it_searches_on_where_the_quick_ones_find_nothing_good() -> None:
    """Two heavy ops that must be apart, at the ends of a chain of light ones that is cut nowhere by balance alone."""
    b = Builder()
    x = b.input("x", 4)
    ends = [b.add_op(b.add_op(b.add_op(x)), name=f"end{i}") for i in range(4)]
    b.returns(*ends)
    seconds = {f"end{i}": 8.0 + i for i in range(4)} | {f"v{i}": 1.0 for i in range(12)}
    made = problem(b.graph, machine([10**6] * 2, bandwidth=1e9), cost=Table(seconds), objective="throughput")
    total = sum(made.durations("d0").values())
    assert made.evaluate(Auto().solve(made)).value == pytest.approx(total / 2, rel=0.02)


def test_interrupted_it_answers_with_the_best_so_far() -> None:
    asked = 0

    def evaluate(placement: Mapping[str, str]) -> Evaluation:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise KeyboardInterrupt
        return Evaluation(float(asked), {}, True)

    told: list[str] = []
    made = problem(chain(4), machine([10**6] * 2), evaluate=evaluate)
    with listening(told.append):
        assert Auto().solve(made) == get_solver("single").solve(made)
    assert told[0].startswith("auto: 1 s by single")
    assert told[-1] == "interrupted: the best so far is taken"


def test_interrupted_with_nothing_it_is_interrupted() -> None:
    def evaluate(placement: Mapping[str, str]) -> Evaluation:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Auto().solve(problem(chain(4), machine([10**6] * 2), evaluate=evaluate))
