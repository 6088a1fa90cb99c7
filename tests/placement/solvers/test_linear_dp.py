from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import chain
from tests.placement.graphs import Table, machine, problem
from torchplace.placement.check import check
from torchplace.placement.problem import Problem
from torchplace.placement.solvers import linear_dp
from torchplace.placement.solvers.linear_dp import LinearDp

VALUE = 16
"""Bytes of each value of a chain."""


def busiest(made: Problem, placement: dict[str, str], bandwidth: float) -> float:
    """The load of the busiest device of a chain, op by op."""
    loads = dict.fromkeys(made.devices, 0.0)
    for op in made.ops:
        loads[placement[op]] += made.duration(op, placement[op])
    for one, other in itertools.pairwise(made.ops):
        if placement[one] != placement[other]:
            for op in (one, other):
                loads[placement[op]] += VALUE / bandwidth
    return max(loads.values())


@given(
    st.lists(st.sampled_from([0.5, 1.0, 2.0, 5.0]), min_size=1, max_size=7),
    st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=1, max_size=3),
    st.sampled_from([4.0, 16.0, 1e6]),
)
def test_no_contiguous_split_is_better(times: list[float], slowness: list[float], bandwidth: float) -> None:
    graph = chain(len(times))
    cost = Table({op.name: time for op, time in zip(graph.ops, times, strict=True)})
    made = problem(graph, machine([2**20] * len(slowness), slowness, bandwidth=bandwidth), cost=cost)
    least = min(
        busiest(made, placement, bandwidth)
        for order in itertools.permutations(made.devices)
        for ends in itertools.combinations_with_replacement(range(len(times) + 1), len(order) - 1)
        for placement in [_split(made, order, ends)]
    )
    assert busiest(made, LinearDp().solve(made), bandwidth) == pytest.approx(least)


def _split(made: Problem, order: tuple[str, ...], ends: tuple[int, ...]) -> dict[str, str]:
    cuts = [0, *ends, len(made.ops)]
    return {op: d for d, (i, j) in zip(order, itertools.pairwise(cuts), strict=True) for op in made.ops[i:j]}


def test_long_chains_and_many_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_dp, "MAX_UNITS", 10)
    monkeypatch.setattr(linear_dp, "MAX_STATES", 8)
    made = problem(chain(100), machine([2**20] * 20, [1.0, 2.0] * 10, bandwidth=1e9))
    placement = LinearDp().solve(made)
    assert check(made, placement) == []
    assert 1 < len(set(placement.values())) <= 20
