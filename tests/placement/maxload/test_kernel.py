from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.placement.maxload.instances import instances
from torchplace.placement.maxload.instance import Instance
from torchplace.placement.maxload.kernel import kernel, least_load, merge


@given(instances(), st.floats(1.0, 20.0))
def test_what_is_joined_is_together_in_every_placement_below_the_limit(instance: Instance, limit: float) -> None:
    problem = instance.problem
    small = kernel(problem, limit)
    for placed in map(np.array, itertools.product(range(len(problem.devices)), repeat=problem.count)):
        if problem.max_load(placed) < limit * (1 - 1e-9):
            again = small.place(small.shrink(placed))
            assert again.tolist() == placed.tolist()
            assert small.problem.max_load(small.shrink(placed)) == pytest.approx(problem.max_load(placed))


@given(instances(), st.data())
def test_merging_keeps_loads(instance: Instance, data: st.DataObject) -> None:
    problem = instance.problem
    labels = [data.draw(st.integers(0, 2)) for _ in range(problem.count)]
    numbers = {label: n for n, label in enumerate(dict.fromkeys(labels))}
    part_of = np.array([numbers[label] for label in labels])
    merged = merge(problem, part_of)
    placed = np.array([data.draw(st.integers(0, len(problem.devices) - 1)) for _ in numbers])
    assert merged.loads(placed) == pytest.approx(problem.loads(placed[part_of]))


@given(instances())
def test_the_least_load_with_one_item_and_without_another(instance: Instance) -> None:
    problem = instance.problem
    first = np.cumsum([0, *(kind.number for kind in problem.kinds)])
    for k, (one, other) in itertools.product(
        range(len(problem.kinds)), itertools.permutations(range(problem.count), 2)
    ):
        if not problem.kinds[k].number or len(problem.devices) < 2:
            continue
        away = next(d for d in range(len(problem.devices)) if d != first[k])
        least = float("inf")
        for inside in itertools.product((False, True), repeat=problem.count):
            if inside[one] and not inside[other]:
                placed = np.where(inside, first[k], away)
                least = min(least, problem.loads(placed)[first[k]])
        assert least_load(problem, k, one, other) == pytest.approx(least, abs=1e-6)
