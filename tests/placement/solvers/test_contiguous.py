from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import FLOAT, Table, machine, perceptron, problem, problems
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.contiguous import Chain, split_evenly

W = 4 * FLOAT


def splits(units: int, devices: int) -> Iterator[tuple[int, ...]]:
    """The ends of the pieces of every contiguous split."""
    for cuts in combinations_with_replacement(range(units + 1), devices - 1):
        yield (*cuts, units)


def within(made: Problem, placement: Mapping[str, str]) -> bool:
    """Whether a placement fits, but for devices that the pins alone overfill."""
    pinned = {op: d for op, d in placement.items() if op in made.pins}
    load, base = made.resident(placement), dict(made.fixed_bytes)
    for op, device in pinned.items():
        base[device] += made.op_bytes[op]
    return all(load[d] <= max(made.capacity[d], base[d]) for d in made.devices)


def busiest(made: Problem, placement: Mapping[str, str]) -> float:
    load = dict.fromkeys(made.devices, 0.0)
    for op, device in placement.items():
        load[device] += made.duration(op, device)
    return max(load.values())


@given(problems())
def test_no_contiguous_split_is_better(made: Problem) -> None:
    chain = Chain.of(made)
    found = split_evenly(chain, made.durations, made.capacity)
    every = [chain.place(ends) for ends in splits(len(chain.units), len(made.devices))]
    best = min((busiest(made, p) for p in every if within(made, p)), default=None)
    if found is None:
        assert best is None
    else:
        assert busiest(made, chain.place(found)) == pytest.approx(best)
        assert within(made, chain.place(found))


@given(
    st.lists(st.floats(0.0, 1.0), min_size=2, max_size=8), st.lists(st.sampled_from([1.0, 1.5]), min_size=2, max_size=3)
)
def test_no_contiguous_split_of_a_chain_is_better(times: list[float], slowness: list[float]) -> None:
    cost = Table({f"v{i}": time for i, time in enumerate(times)})
    made = problem(chain(len(times)), machine([10**6] * len(slowness), slowness), cost=cost)
    whole = Chain.of(made)
    found = split_evenly(whole, made.durations, made.capacity)
    assert found is not None
    best = min(busiest(made, whole.place(ends)) for ends in splits(len(times), len(slowness)))
    assert busiest(made, whole.place(found)) == pytest.approx(best)


@given(problems())
def test_units_are_whole_groups_and_all_that_is_not_pinned(made: Problem) -> None:
    chain = Chain.of(made)
    unit_of = {op: i for i, unit in enumerate(chain.units) for op in unit}
    assert sorted([*unit_of, *made.pins]) == sorted(made.ops)
    assert all(len({unit_of.get(op) for op in group}) == 1 for group in made.groups)


def test_backward_ops_are_in_the_unit_of_their_layer() -> None:
    made = problem(perceptron((8, 4)), machine([10**6] * 2), training=True)
    assert Chain.of(made).units == (("layer0", "grad0"), ("layer1", "grad1", "back1"))


def test_fill_gives_each_device_what_it_can_take() -> None:
    chain_of_five = Chain.of(problem(chain(5), machine([2 * W, W - 1, 2 * W, 10 * W])))
    assert chain_of_five.fill(chain_of_five.problem.capacity) == [2, 2, 4, 5]


def test_units_without_bytes_follow_those_before() -> None:
    b = Builder()
    at = b.add_op(b.input("x", 4), b.parameter("w0", 4))
    at = b.add_op(at)
    b.returns(b.add_op(at, b.parameter("w1", 4)))
    made = problem(b.graph, machine([W, W]))
    assert Chain.of(made).fill(made.capacity) == [2, 3]


def test_what_is_pinned_counts_as_load() -> None:
    cost = Table({f"v{i}": 1.0 for i in range(6)})
    made = problem(chain(6), machine([10**6] * 2), cost=cost, pins={"v4": "d0", "v5": "d0"})
    assert split_evenly(Chain.of(made), made.durations, made.capacity) == [1, 4]


def test_what_is_pinned_takes_room() -> None:
    made = problem(chain(4), machine([2 * W, 10 * W]), pins={"v3": "d0"})
    assert Chain.of(made).fill(made.capacity) == [1, 3]


def test_nothing_fits() -> None:
    made = problem(chain(3), machine([W, W]))
    assert split_evenly(Chain.of(made), made.durations, made.capacity) is None
