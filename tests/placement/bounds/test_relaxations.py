from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain, graphs, placements
from tests.placement.bounds.problems import evaluators, every_placement
from tests.placement.graphs import Table, machine, perceptron
from torchplace.compiler.capture import Captured
from torchplace.compiler.graph import Graph
from torchplace.placement.bounds import Bound, lower_bound
from torchplace.placement.cost.compute import ComputeCost
from torchplace.placement.evaluate import Evaluator
from torchplace.placement.planning import evaluation
from torchplace.placement.topology import CoRun, Device, Host, Topology, both_ways

ROOM = 2**20


def bound(graph: Graph, topology: Topology, cost: ComputeCost | None = None, objective: str = "latency") -> Bound:
    return lower_bound(Evaluator(Captured(graph, (graph,), {}), topology, cost or Table(), {}), objective)


def wide(count: int) -> Graph:
    b = Builder()
    x = b.input("x", 1)
    return b.returns(*(b.add_op(x, shape=(1,)) for _ in range(count)))


def test_a_chain_is_bound_by_its_path() -> None:
    assert bound(chain(6), machine([ROOM] * 3)) == (6.0, "critical path")


def test_independent_work_is_bound_by_its_share() -> None:
    assert bound(wide(6), machine([ROOM] * 3)) == (2.0, "work over capacity")


def test_every_op_counts_as_on_its_fastest_device() -> None:
    assert bound(chain(6), machine([ROOM] * 2, [3.0, 0.5])).seconds == 3.0


def test_devices_of_one_kind_need_not_be_alike() -> None:
    """Two boards of one kind, one of them clocked down: the faster one bounds."""
    devices = [Device(n, "toy", ROOM, {"float32": 1.0}, 1.0, slow) for n, slow in (("fast", 1.0), ("slow", 5.0))]
    for pair in (devices, devices[::-1]):
        topology = Topology("pair", tuple(pair), (), both_ways("fast", "slow", "wire", 1.0, 0.0))
        assert bound(chain(6), topology).seconds == 6.0


def test_a_slow_device_does_less_than_its_share() -> None:
    assert bound(wide(6), machine([ROOM] * 2, [1.0, 5.0])).seconds == pytest.approx(5.0), "five and one"


def test_what_the_fast_device_has_no_room_for_a_slow_one_does() -> None:
    graph = chain(4)  # 16 bytes of state each, and 16 of the input and of the output
    found = bound(graph, machine([50, ROOM], [1.0, 10.0], bandwidth=1e9))
    assert found.source == "assignment LP"
    assert 4.0 < found.seconds <= 1 + 3 * 10


def test_branches_that_cannot_be_apart_run_one_after_the_other() -> None:
    b = Builder()
    x = b.add_op(b.input("x", 4))
    graph = b.returns(b.add_op(*(b.add_op(x) for _ in range(3))))
    assert bound(graph, machine([ROOM] * 3, bandwidth=4.0)) == (5.0, "critical path with transfers")
    assert bound(graph, machine([ROOM] * 3, bandwidth=1e9)).seconds == pytest.approx(3.0)


def test_what_is_between_two_joins_shares_the_devices() -> None:
    b = Builder()
    x = b.add_op(b.input("x", 4))
    graph = b.returns(b.add_op(*(b.add_op(x) for _ in range(6))))
    assert bound(graph, machine([ROOM] * 2, bandwidth=1e12)) == (5.0, "interval work")


def test_from_step_to_step_the_longest_op_and_the_share_bound() -> None:
    assert bound(chain(6), machine([ROOM] * 3), objective="throughput") == (2.0, "work over capacity")
    assert bound(chain(3), machine([ROOM] * 3), Table({"v1": 5.0}), "throughput") == (5.0, "longest op")


def test_from_step_to_step_a_device_has_whole_ops() -> None:
    assert bound(chain(5), machine([ROOM] * 3), objective="throughput") == (2.0, "pigeonhole")


def test_from_step_to_step_what_is_too_large_to_send_stays() -> None:
    graph, topology = chain(4), machine([ROOM] * 4, bandwidth=8.0)
    found = bound(graph, topology, objective="throughput")
    assert found.source == "values too large to send"
    assert found.seconds == pytest.approx(2.0, rel=1e-2), "16 bytes at 8 bytes/s: apart is no better than in pairs"


def test_the_host_adds_what_it_adds_to_every_program() -> None:
    host = Host(call=1.0, argument=0.25, instruction=0.5, start=2.0)
    slow = replace(machine([ROOM] * 3), host=host)
    assert bound(wide(3), slow) == (1.0 + 0.25 * (1 + 3) + 0.5 + 3.0, "one device"), "several: 1, and 4 for the start"
    assert bound(wide(9), slow) == (1.0 + 0.25 * (1 + 9) + 0.5 + 3.0 + 4.0, "work over capacity")
    assert bound(wide(6), slow, objective="throughput").seconds == 2.5


def test_devices_that_slow_each_other_are_worth_less() -> None:
    alike = machine([ROOM] * 2, bandwidth=1e12)
    slowed = replace(alike, coruns=(CoRun("power", alike.device_names, None, (1.0, 1.6)),))
    assert bound(wide(10), slowed).seconds == pytest.approx(8.0)
    assert bound(wide(10), slowed, objective="throughput").seconds == 5.0, "they need not compute at the same time"


def test_pins_are_kept_to() -> None:
    graph, topology = wide(6), machine([ROOM] * 2, [1.0, 1.0])
    evaluator = Evaluator(Captured(graph, (graph,), {}), topology, Table(), {})
    assert lower_bound(evaluator, pins=dict.fromkeys(["v0", "v1", "v2", "v3"], "d1")).seconds == pytest.approx(4.0)
    assert lower_bound(evaluator, "throughput", {f"v{i}": "d0" for i in range(5)}).seconds == pytest.approx(5.0)


def test_nothing_takes_no_time_and_what_fits_nowhere_for_ever() -> None:
    for objective in ("latency", "throughput"):
        assert bound(Graph("empty"), machine([ROOM]), objective=objective) == (0.0, "")
        assert bound(chain(2), machine([8, 8]), objective=objective).seconds == float("inf")


@settings(max_examples=50)
@given(evaluators(most=4))
def test_no_placement_beats_it(evaluator: Evaluator) -> None:
    """Of all placements, as they are lowered and simulated; of some thousands, every so manieth."""
    every = len(evaluator.topology.devices) ** len(evaluator.captured.graph.ops)
    bounds = {objective: lower_bound(evaluator, objective) for objective in ("latency", "throughput")}
    for placement in itertools.islice(every_placement(evaluator), 0, None, 1 + every // 40):
        found = evaluation(evaluator, placement)
        if found.feasible:
            assert found.step_time >= bounds["latency"].seconds * (1 - 1e-9), bounds
            assert found.period >= bounds["throughput"].seconds * (1 - 1e-9), bounds


@settings(max_examples=30)
@given(evaluators(), st.data())
def test_no_placement_with_the_same_pins_beats_it(evaluator: Evaluator, data: st.DataObject) -> None:
    graph = evaluator.captured.graph
    placement = data.draw(placements(graph, evaluator.topology.device_names))
    free = [op.name for op in graph.ops if not op.mutates]
    pins = {name: placement[name] for name in free if data.draw(st.booleans())}
    for objective in ("latency", "throughput"):
        found = evaluation(evaluator, placement, objective)
        least = lower_bound(evaluator, objective, pins).seconds
        assert not found.feasible or found.value >= least * (1 - 1e-9)
        assert least >= lower_bound(evaluator, objective).seconds * (1 - 2e-3)


@settings(max_examples=30)
@given(graphs(), st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=2, max_size=4))
def test_one_more_device_raises_no_bound(graph: Graph, slowness: list[float]) -> None:
    fewer, more = machine([ROOM] * (len(slowness) - 1), slowness[:-1]), machine([ROOM] * len(slowness), slowness)
    for objective in ("latency", "throughput"):
        least = bound(graph, more, objective=objective).seconds
        assert least <= bound(graph, fewer, objective=objective).seconds * (1 + 2e-3)


def test_the_same_twice() -> None:
    topology = machine([ROOM] * 3, [1.0, 2.0, 3.0])
    assert bound(perceptron(), topology) == bound(perceptron(), topology)
