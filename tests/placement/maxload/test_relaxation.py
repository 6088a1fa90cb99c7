from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.placement.maxload.instances import instances, optimum
from torchplace.placement.maxload.frontier import Frontier
from torchplace.placement.maxload.instance import Instance
from torchplace.placement.maxload.problem import LoadProblem
from torchplace.placement.maxload.relaxation import Bounding, Guess, balance, load_of


def loads_alone(problem: LoadProblem, kind: int) -> list[tuple[np.ndarray, float]]:
    """Every set of items, and the load of a device of a kind that has it; infinite where an item cannot run."""
    first = int(np.cumsum([0, *(k.number for k in problem.kinds)])[kind])
    away = next(d for d in range(len(problem.devices)) if d != first)
    found = []
    for inside in map(np.array, itertools.product((False, True), repeat=problem.count)):
        barred = bool(np.any(~np.isfinite(problem.time[kind][inside])))
        load = float("inf") if barred else float(problem.loads(np.where(inside, first, away))[first])
        found.append((inside, load))
    return found


@given(instances(), st.floats(0.5, 15.0), st.data())
def test_the_set_of_most_worth(instance: Instance, limit: float, data: st.DataObject) -> None:
    """By sweeping, by search and by ratio: none less than the truth, and the first two hardly more."""
    problem = instance.problem
    worth = np.array([data.draw(st.sampled_from([0.0, 1.0, 2.0, 5.0])) for _ in range(problem.count)])
    for k, kind in enumerate(problem.kinds):
        if not kind.number or len(problem.devices) < 2:
            continue
        every = loads_alone(problem, k)
        truth = max(float(worth[inside].sum()) for inside, load in every if load <= limit)
        near = max(float(worth[inside].sum()) for inside, load in every if load <= limit * 1.01 + 1e-9)
        guess = Guess(problem, limit, [[] for _ in problem.kinds])
        assert all(load_of(problem, k, inside) == pytest.approx(load) for inside, load in every)
        frontier = Frontier(problem, k, limit)
        assert frontier.steps is not None
        bound, found = frontier.most(worth)
        assert truth - 1e-9 <= bound <= near + 1e-9
        assert float(worth[found].sum()) == pytest.approx(bound)
        bound, _ = guess._by_search(k, worth, float("inf"))
        assert truth - 1e-6 <= bound <= near + 1e-3
        if not (problem.give[k].any() or problem.take[k].any()):
            assert guess._by_ratio(k, worth)[0] >= truth - 1e-9


@settings(max_examples=60)
@given(instances(most=5))
def test_bounds_bound(instance: Instance) -> None:
    best = optimum(instance)
    if best == float("inf"):
        return
    problem = instance.problem
    low = balance(problem)
    assert low <= best * (1 + 1e-9)
    bounding = Bounding(problem, low)
    for upper in (best * 1.3, best * 1.1, best):
        assert low <= bounding.raise_towards(upper, 0.3) <= best * (1 + 1e-6)
    assert bounding.lower <= best * (1 + 1e-6)
