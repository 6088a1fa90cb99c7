from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import Table, machine, problem, problems
from torchplace.compiler.graph import Graph
from torchplace.placement.problem import Problem
from torchplace.placement.solvers import favourites as module
from torchplace.placement.solvers.favourites import favourites, matched, relaxed


@given(problems(), st.sampled_from([0.0, 10.0]))
def test_children_are_users_and_nobody_is_the_child_of_two(made: Problem, seconds: float) -> None:
    found = favourites(made, seconds)
    assert found.items() <= {(edge.source, edge.target) for edge in made.edges}
    assert len(set(found.values())) == len(found)


def ends(delays: Mapping[tuple[int, int], float], time: list[float], paid: Mapping[tuple[int, int], float]) -> float:
    """When all is done on devices without number, if so much of each transfer is paid for."""
    end = list(time)
    for item in range(len(time)):
        for (source, target), delay in delays.items():
            if target == item:
                end[item] = max(end[item], end[source] + delay * paid[source, target] + time[item])
    return max(end)


@given(st.data())
def test_the_relaxation_ends_no_later_than_any_choice(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 5))
    pairs = [(source, target) for target in range(count) for source in range(target)]
    edges = data.draw(st.lists(st.sampled_from(pairs), min_size=1, unique=True))
    delays = {edge: data.draw(st.sampled_from([0.5, 1.0, 4.0])) for edge in sorted(edges, key=lambda edge: edge[1])}
    time = [data.draw(st.sampled_from([0.0, 1.0, 3.0])) for _ in range(count)]
    answer = relaxed(delays, np.array(time), 10.0)
    assert answer is not None
    paid = dict(zip(delays, answer.tolist(), strict=True))
    for ends_of in (0, 1):  # one child, one favourite parent
        for item in range(count):
            of_item = [part for edge, part in paid.items() if edge[ends_of] == item]
            assert sum(of_item) >= len(of_item) - 1 - 1e-6
    choices = itertools.product([False, True], repeat=len(delays))
    spared = [[edge for edge, is_spared in zip(delays, choice, strict=True) if is_spared] for choice in choices]
    valid = [edges for edges in spared if len(matched(edges)) == len(edges)]
    least = min(ends(delays, time, {edge: float(edge not in edges) for edge in delays}) for edges in valid)
    assert ends(delays, time, paid) <= least + 2e-3 * count * (np.mean(time) or 1.0)


def fork(times: Mapping[str, float]) -> Problem:
    """One op, a large value for `brief`, a small one for `long`."""
    b = Builder()
    op = b.many("aten.split.Tensor", b.input("x", 4), 2, shapes=[(100,), (50,)], name="fork")
    b.add_op(op.outputs[0], name="brief", shape=(1,))
    return problem(
        b.returns(b.add_op(op.outputs[1], name="long", shape=(1,))),
        machine([2**20] * 2, bandwidth=100.0),
        cost=Table(times),
    )


def test_the_child_on_the_longest_way_is_the_favourite() -> None:
    assert favourites(fork({"long": 20.0}), 10.0) == {"fork": "long"}
    assert favourites(fork({"brief": 20.0}), 10.0) == {"fork": "brief"}


def test_where_the_relaxation_divides_the_favour_nobody_has_it() -> None:
    assert favourites(fork({}), 10.0) == {}  # a third of one transfer is paid for, and two thirds of the other


def test_without_time_it_is_the_one_with_the_largest_transfer() -> None:
    assert favourites(fork({"long": 20.0}), 0.0) == {"fork": "brief"}


def test_the_next_of_a_chain_is_the_favourite(monkeypatch: pytest.MonkeyPatch) -> None:
    made = problem(chain(20), machine([2**20] * 2))
    expected = {f"v{i}": f"v{i + 1}" for i in range(19)}
    assert favourites(made, 10.0) == expected
    monkeypatch.setattr(module, "MAX_ITEMS", 4)
    assert favourites(made, 10.0) == expected  # within items, and from one to the next


def test_no_op_and_no_edge() -> None:
    assert favourites(problem(Graph("empty"), machine([1])), 10.0) == {}
    assert favourites(problem(chain(1), machine([2**20])), 10.0) == {}
