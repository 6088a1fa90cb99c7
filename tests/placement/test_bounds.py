from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain, graphs, placements
from tests.placement.graphs import Table, machine, machines
from torchplace.compiler.graph import Graph
from torchplace.compiler.lower import lower
from torchplace.placement.bounds import lower_bound
from torchplace.placement.objective import period
from torchplace.placement.simulate import simulate
from torchplace.placement.topology import Device, Topology, both_ways


def wide(count: int) -> Graph:
    b = Builder()
    x = b.input("x", 1)
    return b.returns(*(b.add_op(x) for _ in range(count)))


def test_a_chain_is_bound_by_its_path() -> None:
    assert lower_bound(chain(6), machine([1, 1, 1]), Table()) == 6.0


def test_independent_work_is_bound_by_its_share() -> None:
    assert lower_bound(wide(6), machine([1, 1, 1]), Table()) == 2.0


def test_every_op_counts_as_on_its_fastest_device() -> None:
    assert lower_bound(chain(6), machine([1, 1], [3.0, 0.5]), Table()) == 3.0


def test_devices_of_one_kind_need_not_be_alike() -> None:
    """Two boards of one kind, one of them clocked down: the faster one bounds."""
    devices = [Device(n, "toy", 1, {"float32": 1.0}, 1.0, slow) for n, slow in (("fast", 1.0), ("slow", 5.0))]
    for pair in (devices, devices[::-1]):
        topology = Topology("pair", tuple(pair), (), both_ways("fast", "slow", "wire", 1.0, 0.0))
        assert lower_bound(chain(6), topology, Table()) == 6.0


def test_no_ops_take_no_time() -> None:
    assert lower_bound(Graph("empty"), machine([1]), Table()) == 0.0


@given(graphs(), machines(), st.data())
def test_no_placement_beats_it(graph: Graph, topology: Topology, data: st.DataObject) -> None:
    cost = Table({op.name: data.draw(st.sampled_from([0.0, 0.1, 1.0, 7.0])) for op in graph.ops})
    placement = data.draw(placements(graph, topology.device_names))
    made = lower(graph, placement, topology.device_names)
    assert simulate(made, graph, topology, cost).duration >= lower_bound(graph, topology, cost) * (1 - 1e-12)


def test_the_best_placement_of_independent_work_meets_it() -> None:
    graph, topology = wide(4), machine([64, 64], bandwidth=1e12)
    placement = {f"v{i}": f"d{i % 2}" for i in range(4)}
    made = lower(graph, placement, topology.device_names)
    assert simulate(made, graph, topology, Table()).duration == pytest.approx(lower_bound(graph, topology, Table()))


def test_from_step_to_step_the_longest_op_and_the_share_bound() -> None:
    assert lower_bound(chain(6), machine([1, 1, 1]), Table(), "throughput") == 2.0, "a pipeline of three"
    assert lower_bound(chain(3), machine([1, 1, 1]), Table({"v1": 5.0}), "throughput") == 5.0


@given(graphs(), machines(), st.data())
def test_no_placement_has_a_shorter_period(graph: Graph, topology: Topology, data: st.DataObject) -> None:
    cost = Table({op.name: data.draw(st.sampled_from([0.0, 0.1, 1.0, 7.0])) for op in graph.ops})
    placement = data.draw(placements(graph, topology.device_names))
    timeline = simulate(lower(graph, placement, topology.device_names), graph, topology, cost)
    least = lower_bound(graph, topology, cost, "throughput")
    assert period(timeline.occupied, timeline.link_bytes, topology) >= least * (1 - 1e-12)
