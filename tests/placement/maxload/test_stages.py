from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchplace.placement.maxload.stages import best_stages

COSTS = st.sampled_from([0.0, 0.5, 1.0, 3.0, float("inf")])


@given(
    st.data(), st.integers(1, 4), st.lists(st.integers(1, 2), min_size=1, max_size=2), st.sampled_from(["max", "sum"])
)
def test_no_chain_costs_less(data: st.DataObject, states: int, numbers: list[int], how: str) -> None:
    rows = st.lists(st.lists(COSTS, min_size=states, max_size=states), min_size=states, max_size=states)
    costs = [np.array(data.draw(rows)) for _ in numbers]
    combine, total = (np.maximum, max) if how == "max" else (np.add, sum)
    cost, stages = best_stages(costs, numbers, combine)
    kinds = [kind for kind, number in enumerate(numbers) for _ in range(number)]
    least = float("inf")
    for order in set(itertools.permutations(kinds)):
        for between in itertools.product(range(states), repeat=len(kinds) - 1):
            way = [0, *between, states - 1]
            parts = (costs[k][end, start] for k, (start, end) in zip(order, itertools.pairwise(way), strict=True))
            least = min(least, total(parts))
    assert cost == pytest.approx(least)
    if np.isfinite(cost):
        assert [0, *(s.end for s in stages)] == [*(s.start for s in stages), states - 1]
        assert total(costs[s.kind][s.end, s.start] for s in stages) == pytest.approx(cost)
        for kind, number in enumerate(numbers):
            assert [s.number for s in stages if s.kind == kind] == list(range(number))
