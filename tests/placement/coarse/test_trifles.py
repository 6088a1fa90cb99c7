from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.placement.coarse.dags import Dag, dags
from torchplace.placement.coarse.trifles import Shared, fold


@given(dags(), st.data())
def test_what_is_joined_is_acyclic_still_and_in_order(dag: Dag, data: st.DataObject) -> None:
    weights = st.lists(st.sampled_from([0, 1, 10**6]), min_size=dag.count, max_size=dag.count)
    groups = fold(data.draw(weights), data.draw(weights), dag.arcs, dag.values)
    number = {node: i for i, nodes in enumerate(groups) for node in nodes}
    assert sorted(node for nodes in groups for node in nodes) == list(range(dag.count))
    assert all(number[source] <= number[target] for source, target in dag.arcs)


@given(dags(), st.data())
def test_what_takes_time_is_not_joined_with_what_does(dag: Dag, data: st.DataObject) -> None:
    times = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=dag.count, max_size=dag.count))
    for nodes in fold(times, [0] * dag.count, dag.arcs, dag.values):
        assert sum(times[node] for node in nodes) <= 1.0


def test_constants_go_with_the_first_that_takes_them() -> None:
    chain = [(0, 1), (1, 2), (2, 3)]
    # 4 is a constant that 1, 2 and 3 take; numbers are topological, so it is 0 here.
    arcs = [(0, 2), (0, 3), (0, 4), *((a + 1, b + 1) for a, b in chain)]
    assert fold([0.0, 1, 1, 1, 1], [0] * 5, arcs, [Shared(0, (2, 3, 4), 8)]) == [[1], [2, 0], [3], [4]]


def test_a_mask_of_every_layer_leaves_no_choice() -> None:
    """Each layer takes a copy of a mask; all copies are made of one. Layers are 4 to 6, their copies 1 to 3."""
    arcs = [(0, 1), (0, 2), (0, 3), (1, 4), (2, 5), (3, 6), (4, 5), (5, 6)]
    values = [
        Shared(0, (1, 2, 3), 8),
        *(Shared(i, (i + 3,), 8) for i in (1, 2, 3)),
        Shared(4, (5,), 8),
        Shared(5, (6,), 8),
    ]
    groups = fold([0.0] * 4 + [1.0] * 3, [0] * 7, arcs, values)
    assert sorted(map(sorted, groups)) == [[0, 1, 4], [2, 5], [3, 6]]


def test_a_table_whose_rows_are_few_is_not_moved() -> None:
    """It takes no time, but it is large, and hands over next to nothing: it may well be elsewhere."""
    assert fold([0.0, 1.0], [1000, 1000], [(0, 1)], [Shared(0, (1,), 8)]) == [[0], [1]]
    assert fold([0.0, 1.0], [1000, 1000], [(0, 1)], [Shared(0, (1,), 1000)]) == [[1, 0]]


def test_a_cut_where_less_is_handed_over_remains() -> None:
    """1 takes no time, and makes little of much: a cut after it is better than one before it."""
    groups = fold([1.0, 0.0, 1.0], [0] * 3, [(0, 1), (1, 2)], [Shared(0, (1,), 100), Shared(1, (2,), 1)])
    assert sorted(map(sorted, groups)) == [[0, 1], [2]]
    groups = fold([1.0, 0.0, 1.0], [0] * 3, [(0, 1), (1, 2)], [Shared(0, (1,), 1), Shared(1, (2,), 100)])
    assert sorted(map(sorted, groups)) == [[0], [1, 2]]


def test_what_nobody_waits_for_stays_where_it_is_in_the_program() -> None:
    assert fold([1.0, 0.0, 1.0], [0] * 3, [(0, 2)], []) == [[0, 1], [2]]
    assert fold([1.0, 0.0, 1.0], [1, 1, 1], [(0, 2)], []) == [[0], [1], [2]]
