from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torchplace.placement.coarse.contract import contract

Case = tuple[list[float], list[tuple[int, int]], list[int], int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Weights, arcs, kinds and the number to be left."""
    count = draw(st.integers(0, 14))
    pairs = [(i, j) for j in range(count) for i in range(j)]
    arcs = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    weights = draw(st.lists(st.sampled_from([0.0, 1.0, 2.0, 50.0]), min_size=count, max_size=count))
    kinds = draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    return weights, arcs, kinds, draw(st.integers(1, 16))


@given(cases())
def test_items_can_run_one_after_the_other(case: Case) -> None:
    weights, arcs, kinds, most = case
    items = contract(weights, arcs, kinds, most)
    assert sorted(node for nodes in items for node in nodes) == [*range(len(weights))]
    position = {node: number for number, nodes in enumerate(items) for node in nodes}
    assert all(position[source] <= position[target] for source, target in arcs), "no cycle, and in order"
    assert all(len({kinds[node] for node in nodes}) == 1 for nodes in items)
    assert contract(weights, arcs, kinds, most) == items


def test_what_is_few_stays() -> None:
    assert contract([1.0] * 3, [(0, 1), (1, 2)], [0] * 3, 3) == [[0], [1], [2]]


def test_a_chain_is_cut_into_equal_pieces() -> None:
    items = contract([1.0] * 12, [(i, i + 1) for i in range(11)], [0] * 12, 4)
    assert [node for nodes in items for node in nodes] == [*range(12)]
    assert len(items) == 4
    assert max(map(len, items)) <= 6, "none weighs more than twice its share"


def test_branches_are_kept_apart_and_closed_before_they_are_mixed() -> None:
    fork = [(0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 5)]
    assert contract([1.0] * 6, fork, [0] * 6, 4) == [[0], [1, 3], [2, 4], [5]]


def test_nodes_without_arcs_are_joined_in_runs() -> None:
    items = contract([1.0] * 100, [], [0] * 100, 10)
    assert 10 <= len(items) <= 20
    assert [node for nodes in items for node in nodes] == [*range(100)]
