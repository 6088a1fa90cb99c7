from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import Table, machine, perceptron, problem
from torchplace.placement.check import check
from torchplace.placement.solvers import kernighan_lin
from torchplace.placement.solvers.kernighan_lin import SLACK, KernighanLin, bisections


def cliques(sizes: list[int]) -> list[dict[int, int]]:
    """Units that all have much to say to the others of their clique; cliques are mixed in number; and a weak ring."""
    clique = [c for i in range(max(sizes)) for c, size in enumerate(sizes) if i < size]
    near: list[dict[int, int]] = [{} for _ in clique]
    for one, other in itertools.combinations(range(len(clique)), 2):
        if clique[one] == clique[other]:
            near[one][other] = near[other][one] = 100
        elif other == one + 1:
            near[one][other] = near[other][one] = 1
    return near


def test_cliques_are_not_parted() -> None:
    sides = min(bisections(cliques([6, 6]), np.ones(12), 0.5, Random(0)), key=lambda sides: abs(sum(sides) - 6))
    assert sides == [0, 1] * 6 or sides == [1, 0] * 6


@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 7.0]), min_size=2, max_size=12),
    st.sampled_from([0.1, 0.5, 0.75]),
    st.integers(0, 99),
)
def test_sides_weigh_what_they_should(weights: list[float], share: float, seed: int) -> None:
    chance = Random(seed)
    ties: list[dict[int, int]] = [{} for _ in weights]
    for one, other in itertools.combinations(range(len(weights)), 2):
        if chance.random() < 0.4:
            ties[one][other] = ties[other][one] = chance.randrange(1, 100)
    total, heaviest = sum(weights), max(weights)
    for sides in bisections(ties, np.array(weights), share, Random(seed)):
        assert len(sides) == len(weights)
        first = sum(weight for weight, side in zip(weights, sides, strict=True) if side == 0)
        assert abs(first - share * total) <= max(heaviest, SLACK * total) + 1e-9


def test_branches_go_to_devices_of_their_own() -> None:
    b = Builder()
    x = b.input("x", 1)
    ends = [b.add_op(x, name=f"b{branch}_0", shape=(100,)) for branch in range(4)]
    for i in range(1, 5):
        ends = [b.add_op(end, name=f"b{branch}_{i}", shape=(100,)) for branch, end in enumerate(ends)]
    graph = b.returns(b.add_op(*ends, name="join", shape=(1,)))
    placement = KernighanLin().solve(problem(graph, machine([2**20] * 4, bandwidth=1e4), cost=Table({"join": 0.1})))
    for branch in range(4):
        assert len({placement[f"b{branch}_{i}"] for i in range(5)}) == 1
    assert len(set(placement.values())) == 4


def test_a_slow_device_gets_less() -> None:
    made = problem(chain(40), machine([2**20] * 2, [3.0, 1.0], bandwidth=1e9))
    assert 8 <= list(KernighanLin().solve(made).values()).count("d0") <= 12


def test_the_backward_pass_goes_along() -> None:
    made = problem(perceptron((8, 8, 8, 8)), machine([2**20] * 2, bandwidth=1e9), training=True)
    placement = KernighanLin().solve(made)
    assert all(placement[f"grad{i}"] == placement[f"layer{i}"] for i in range(4))
    assert len(set(placement.values())) == 2


def test_large_graphs_are_contracted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernighan_lin, "MAX_UNITS", 10)
    made = problem(chain(100), machine([2**20] * 4, bandwidth=1e9), objective="throughput")
    placement = KernighanLin().solve(made, seed=3)
    assert placement == KernighanLin().solve(made, seed=3)
    assert check(made, placement) == []
    assert len(set(placement.values())) == 4
