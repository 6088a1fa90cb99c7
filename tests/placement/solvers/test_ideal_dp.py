from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import FLOAT, Table, machine, perceptron, problem
from torchplace.compiler.graph import Graph, Value
from torchplace.placement.check import check
from torchplace.placement.problem import Problem
from torchplace.placement.solvers import ideal_dp
from torchplace.placement.solvers.ideal_dp import IdealDp

W = 4 * FLOAT


@st.composite
def small(draw: st.DrawFn) -> Graph:
    """A few ops, each of which takes one or two of the values before it."""
    b = Builder()
    values: list[Value] = [b.input("x", 4)]
    for i in range(draw(st.integers(1, 5))):
        taken = draw(st.lists(st.sampled_from(values[-3:]), min_size=1, max_size=2, unique_by=lambda v: v.name))
        values.append(b.add_op(*taken, shape=(draw(st.sampled_from([1, 4, 16])),), name=f"v{i}"))
    return b.returns(values[-1])


def busiest(made: Problem, placement: dict[str, str], bandwidth: float) -> float:
    """By the definition: seconds of the busiest device, of computing, sending and receiving."""
    compute, out, into = (dict.fromkeys(made.devices, 0.0) for _ in range(3))
    for op in made.graph.ops:
        here = placement[op.name]
        compute[here] += made.duration(op.name, here)
        for value in op.outputs:
            elsewhere = {placement[user.name] for user in made.graph.users[value.name]} - {here}
            out[here] += value.nbytes / bandwidth * bool(elsewhere)
            for there in elsewhere:
                into[there] += value.nbytes / bandwidth
    if made.objective == "throughput":
        return max(max(table.values()) for table in (compute, out, into))
    return max(compute[d] + out[d] + into[d] for d in made.devices)


def is_contiguous(made: Problem, placement: dict[str, str]) -> bool:
    """Whether the devices can be put in an order in which nothing is handed back."""
    return any(
        all(order.index(placement[edge.source]) <= order.index(placement[edge.target]) for edge in made.edges)
        for order in itertools.permutations(made.devices)
    )


@given(
    small(),
    st.lists(st.sampled_from([1.0, 3.0]), min_size=1, max_size=3),
    st.sampled_from([8.0, 64.0, 1e6]),
    st.sampled_from(["latency", "throughput"]),
    st.data(),
)
def test_no_contiguous_split_is_better(
    graph: Graph, slowness: list[float], bandwidth: float, objective: str, data: st.DataObject
) -> None:
    cost = Table({op.name: data.draw(st.sampled_from([0.5, 1.0, 4.0])) for op in graph.ops})
    topology = machine([2**20] * len(slowness), slowness, bandwidth=bandwidth)
    made = problem(graph, topology, cost=cost, objective=objective)
    answer = IdealDp().solve(made)
    ways = itertools.product(made.devices, repeat=len(made.ops))
    splits = (dict(zip(made.ops, way, strict=True)) for way in ways)
    least = min(busiest(made, split, bandwidth) for split in splits if is_contiguous(made, split))
    assert is_contiguous(made, answer)
    assert busiest(made, answer, bandwidth) == pytest.approx(least)


def test_it_can_cut_between_branches() -> None:
    """In program order the branches alternate; a split of that order would hand over at every cut."""
    b = Builder()
    at = {side: b.input(side, 4) for side in ("left", "right")}
    for i in range(4):
        for side in at:
            at[side] = b.add_op(at[side], name=f"{side}{i}", shape=(1000,))
    made = problem(b.returns(*at.values()), machine([2**20] * 2, bandwidth=1.0), objective="throughput")
    placement = IdealDp().solve(made)
    assert {placement[f"left{i}"] for i in range(4)} != {placement[f"right{i}"] for i in range(4)}
    assert len({placement[f"left{i}"] for i in range(4)}) == len({placement[f"right{i}"] for i in range(4)}) == 1


def test_of_equally_good_splits_the_one_that_hands_over_least_is_taken() -> None:
    cost = Table({"v0": 8.0})
    made = problem(chain(8), machine([2**20] * 8, bandwidth=1e9), cost=cost, objective="throughput")
    placement = IdealDp().solve(made)
    assert set(list(placement.values())[1:]) == {placement["v7"]} != {placement["v0"]}


def test_state_that_two_ends_share_counts() -> None:
    """The first op and the last one have a parameter in common: to part them costs more than it brings."""
    b = Builder()
    at, shared = b.input("x", 4), b.parameter("shared", 100)
    at = b.add_op(at, shared, name="first")
    for i in range(2):
        at = b.add_op(at, name=f"middle{i}")
    graph = b.returns(b.add_op(at, shared, name="last"))
    placement = IdealDp().solve(problem(graph, machine([2**20] * 2, bandwidth=100.0), objective="throughput"))
    assert len(set(placement.values())) == 1
    placement = IdealDp().solve(problem(graph, machine([2**20] * 2, bandwidth=1e6), objective="throughput"))
    assert len(set(placement.values())) == 2


def test_a_device_that_is_busy_with_what_is_pinned_gets_less() -> None:
    made = problem(chain(4), machine([2**20] * 2, bandwidth=1e9), pins={"v0": "d0"}, cost=Table({"v0": 3.0}))
    assert list(IdealDp().solve(made).values()) == ["d0", "d1", "d1", "d1"]


def test_the_backward_pass_goes_along() -> None:
    made = problem(perceptron((8, 4, 2)), machine([2**20] * 2, bandwidth=1e9), training=True, objective="throughput")
    placement = IdealDp().solve(made)
    assert placement["grad2"] == placement["back2"] == placement["layer2"]
    assert len(set(placement.values())) == 2


def test_memory_decides_where_cuts_can_be() -> None:
    made = problem(chain(6), machine([2 * W, 4 * W]))
    assert check(made, IdealDp().solve(made)) == []


def test_a_graph_of_many_sets_is_contracted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ideal_dp, "MAX_IDEALS", 30)
    b = Builder()
    b.returns(*(b.add_op(b.input(f"x{i}", 4), b.parameter(f"w{i}", 4)) for i in range(40)))
    made = problem(b.graph, machine([2**20] * 4, bandwidth=1e9), objective="throughput")
    placement = IdealDp().solve(made)
    assert check(made, placement) == []
    assert len(set(placement.values())) > 1


def test_many_devices_of_many_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ideal_dp, "MAX_STATES", 8)
    made = problem(chain(60), machine([2**20] * 20, [1.0, 2.0] * 10, bandwidth=1e9), objective="throughput")
    placement = IdealDp().solve(made)
    assert check(made, placement) == []
    assert len(set(placement.values())) > 1


def test_where_nothing_can_be_contracted_cuts_follow_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ideal_dp, "KEPT", 20)
    b = Builder()
    b.returns(*(b.add_op(b.input(f"x{i}", 4), b.parameter(f"w{i}", 4)) for i in range(20)))
    made = problem(b.graph, machine([2**20] * 4, bandwidth=1e9), objective="throughput")
    assert sorted(map(list(IdealDp().solve(made).values()).count, made.devices)) == [5, 5, 5, 5]
