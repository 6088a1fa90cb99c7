from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given

from tests.placement.coarse.dags import Dag, dags, is_closed
from torchplace.placement.coarse.ideals import Ideals


def found(dag: Dag) -> Ideals:
    ideals = Ideals.of(dag.count, dag.arcs, 2**dag.count)
    assert ideals is not None
    return ideals


def members(ideals: Ideals, number: int) -> set[int]:
    return {node for node in range(ideals.count) if ideals.sets[number] >> node & 1}


@given(dags())
def test_they_are_all_that_are_closed_and_no_other(dag: Dag) -> None:
    ideals = found(dag)
    closed = [
        set(nodes)
        for size in range(dag.count + 1)
        for nodes in itertools.combinations(range(dag.count), size)
        if is_closed(set(nodes), dag.arcs)
    ]
    assert sorted(map(sorted, closed)) == sorted(sorted(members(ideals, i)) for i in range(len(ideals.sets)))
    sizes = [len(members(ideals, i)) for i in range(len(ideals.sets))]
    assert sizes == sorted(sizes)


@given(dags())
def test_none_where_there_are_more(dag: Dag) -> None:
    count = len(found(dag).sets)
    assert Ideals.of(dag.count, dag.arcs, count) is not None
    assert count == 1 or Ideals.of(dag.count, dag.arcs, count - 1) is None


@given(dags(most=6))
def test_what_crosses_the_border_of_a_difference(dag: Dag) -> None:
    ideals = found(dag)
    out, into = ideals.crossing(dag.values)
    sums = ideals.sums(np.arange(1.0, dag.count + 1))
    for i, j in itertools.product(range(len(ideals.sets)), repeat=2):
        one, other = members(ideals, i), members(ideals, j)
        assert ideals.within[i, j] == (other <= one)
        if other <= one:
            inside = one - other
            assert sums[i, j] == sum(node + 1 for node in inside)
            assert out[i, j] == sum(v.nbytes for v in dag.values if v.source in inside and not inside >= {*v.targets})
            assert into[i, j] == sum(v.nbytes for v in dag.values if v.source not in inside and inside & {*v.targets})


def test_a_chain_has_one_more_than_nodes() -> None:
    ideals = Ideals.of(1000, [(i, i + 1) for i in range(999)], 1001)
    assert ideals is not None
    assert len(ideals.sets) == 1001
