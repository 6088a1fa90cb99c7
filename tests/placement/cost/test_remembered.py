from __future__ import annotations

from collections import Counter
from dataclasses import replace

from tests.compiler.graphs import chain
from torchplace.compiler.capture import Captured
from torchplace.compiler.graph import Op
from torchplace.placement.cost.remembered import Remembered
from torchplace.placement.evaluate import Evaluator
from torchplace.placement.topology import Device, Topology, both_ways


class Counting:
    """Counts what it is asked."""

    name = "counting"

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str, float]] = Counter()

    def time(self, op: Op, device: Device) -> float:
        self.asked["time", op.name, device.launch_overhead] += 1
        return device.launch_overhead

    def demand(self, op: Op, device: Device) -> float:
        self.asked["demand", op.name, device.launch_overhead] += 1
        return 2 * device.launch_overhead


FAST = Device("a", "toy", 1 << 30, {"float32": 1.0}, 1.0, 1.0, torch_device="cuda:0")
ALIKE = replace(FAST, name="b", torch_device="cuda:1")
SLOW = replace(FAST, name="c", launch_overhead=5.0)
LINKS = tuple(k for pair in ("ab", "ac", "bc") for k in both_ways(*pair, "wire", 1e3, 0.0))
TOPOLOGY = Topology("three", (FAST, ALIKE, SLOW), (), LINKS)


def test_each_op_is_asked_for_once_for_each_sort_of_device() -> None:
    counting = Counting()
    cost = Remembered(counting)
    assert cost.name == "counting"
    for op in chain(2).ops:
        for _ in range(3):
            assert [cost.time(op, d) for d in TOPOLOGY.devices] == [1.0, 1.0, 5.0]
            assert [cost.demand(op, d) for d in TOPOLOGY.devices] == [2.0, 2.0, 10.0]
    assert set(counting.asked.values()) == {1}
    assert len(counting.asked) == 2 * 2 * 2, "time and demand, two ops, two sorts of devices"


def test_ops_of_one_name_are_told_apart() -> None:
    """A graph's parts may each have an op of that name."""
    counting = Counting()
    cost = Remembered(counting)
    for graph in (chain(1), chain(1)):
        cost.time(graph.ops[0], FAST)
    assert counting.asked["time", "v0", 1.0] == 2


def test_an_evaluator_asks_once() -> None:
    counting, graph = Counting(), chain(3)
    evaluator = Evaluator(Captured(graph, (graph,), {}), TOPOLOGY, counting, {})
    for where in ("aaa", "aba", "ccc", "bab"):
        placement = {f"v{i}": device for i, device in enumerate(where)}
        evaluator.simulate(evaluator.programs(placement))
    assert set(counting.asked.values()) == {1}
