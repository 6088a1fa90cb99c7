from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import Table, machine, problem
from torchplace.compiler.graph import Graph, Op, Value
from torchplace.compiler.types import TensorType
from torchplace.placement.check import check
from torchplace.placement.cost.compute import Roofline
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.heft import Heft, mean_link, upward_ranks
from torchplace.placement.solvers.schedule import MAX_CANDIDATES, Schedule
from torchplace.placement.topology import Device

# The example of the paper (figure 2 and table 1): times of ten tasks on three processors, and of their messages.
TIMES = {
    "t1": (14, 16, 9),
    "t2": (13, 19, 18),
    "t3": (11, 13, 19),
    "t4": (13, 8, 17),
    "t5": (12, 13, 10),
    "t6": (13, 16, 9),
    "t7": (7, 15, 11),
    "t8": (5, 11, 14),
    "t9": (18, 12, 20),
    "t10": (21, 7, 16),
}
MESSAGES = {
    ("t1", "t2"): 18,
    ("t1", "t3"): 12,
    ("t1", "t4"): 9,
    ("t1", "t5"): 11,
    ("t1", "t6"): 14,
    ("t2", "t8"): 19,
    ("t2", "t9"): 16,
    ("t3", "t7"): 23,
    ("t4", "t8"): 27,
    ("t4", "t9"): 23,
    ("t5", "t9"): 13,
    ("t6", "t8"): 15,
    ("t7", "t10"): 17,
    ("t8", "t10"): 11,
    ("t9", "t10"): 13,
}
RANKS = {
    "t1": 108.000,
    "t2": 77.000,
    "t3": 80.000,
    "t4": 80.000,
    "t5": 69.000,
    "t6": 63.333,
    "t7": 42.667,
    "t8": 35.667,
    "t9": 44.333,
    "t10": 14.667,
}


class Paper:
    """Times by task and processor; a processor is told by its launch overhead."""

    name = "paper"

    def time(self, op: Op, device: Device) -> float:
        return float(TIMES[op.name][int(device.launch_overhead)])


def paper() -> Problem:
    """The example: a message of n seconds is a value of n bytes over links of one byte a second."""
    graph = Graph("paper")
    values: dict[tuple[str, str], Value] = {}
    for task in TIMES:
        op = Op(task, "aten.foo.default", tuple(values[edge] for edge in MESSAGES if edge[1] == task))
        for edge, nbytes in MESSAGES.items():
            if edge[0] == task:
                values[edge] = Value("->".join(edge), TensorType("uint8", (nbytes,)), op)
        op.outputs = tuple(value for value in values.values() if value.producer is op)
        graph.ops.append(op)
    graph.check()
    return problem(graph, machine([2**20] * 3, [0.0, 1.0, 2.0], bandwidth=1.0), cost=Paper())


def test_upward_ranks_are_those_of_the_paper() -> None:
    assert upward_ranks(paper()) == pytest.approx(RANKS, abs=1e-3)


def test_the_schedule_is_that_of_the_paper() -> None:
    made = paper()
    placement = Heft().solve(made)
    processors = {"t1": 2, "t2": 0, "t3": 2, "t4": 1, "t5": 2, "t6": 1, "t7": 2, "t8": 0, "t9": 1, "t10": 1}
    assert placement == {task: f"d{i}" for task, i in processors.items()}


def test_the_schedule_is_as_long_as_the_paper_says() -> None:
    made = paper()
    ranks, schedule = upward_ranks(made), Schedule(made, made.capacity)
    for name in sorted(made.ops, key=lambda op: -ranks[op]):
        choice = schedule.best(made.by_name[name], finish=True)
        assert choice is not None
        schedule.settle(made.by_name[name], choice)
    assert max(slots.free_from for slots in schedule.slots.values()) == 80.0


def towers(cost: Mapping[str, float] | None = None, bandwidth: float = 1e6) -> Problem:
    """An op, two branches of three ops each, and one that joins them."""
    b = Builder()
    x = b.add_op(b.input("x", 4), name="fork")
    ends = []
    for side in ("left", "right"):
        at = x
        for i in range(3):
            at = b.add_op(at, b.parameter(f"{side}_w{i}", 4), name=f"{side}{i}")
        ends.append(at)
    b.returns(b.add_op(*ends, name="join"))
    return problem(b.graph, machine([2**20] * 2, bandwidth=bandwidth), cost=Table(cost or {}))


def test_branches_go_to_two_devices() -> None:
    placement = Heft().solve(towers())
    assert {placement[f"left{i}"] for i in range(3)} != {placement[f"right{i}"] for i in range(3)}
    assert len({placement[f"left{i}"] for i in range(3)}) == 1


def test_branches_stay_together_where_transfers_are_slow() -> None:
    assert len(set(Heft().solve(towers(bandwidth=1.0)).values())) == 1


def test_the_faster_device_is_taken() -> None:
    made = problem(chain(4), machine([2**20] * 3, [2.0, 1.0, 3.0]))
    assert set(Heft().solve(made).values()) == {"d1"}


def test_state_that_has_to_come_from_its_owner_counts() -> None:
    b = Builder()
    x, table = b.input("x", 4), b.parameter("table", 1000)
    owner = b.add_op(x, table, name="owner")
    b.add_op(x, name="long", shape=(1,))
    b.returns(owner, b.add_op(x, table, name="user", shape=(1,)))
    # Alone, `user` would go to the idle device; the table takes 40 s to get there.
    cost = Table({"owner": 3.0, "long": 1.0, "user": 1.0})
    made = problem(b.graph, machine([2**20] * 2, bandwidth=100.0), cost=cost)
    placement = Heft().solve(made)
    assert placement["user"] == placement["owner"]
    assert placement["long"] != placement["owner"]


def test_the_way_home_of_a_gradient_counts() -> None:
    b = Builder()
    x, weight = b.input("x", 1000), b.parameter("weight", 1000)
    at = b.add_op(x, weight, name="owner", shape=(1,))
    b.returns(b.add_op(at, name="tail", shape=(1,)))
    gradient = b.op("aten.mul.Tensor", b.add("t", "tangent", 1), 2, name="gradient", shape=(1000,))
    b.gradient(weight, gradient)
    made = problem(b.graph, machine([2**20] * 2, bandwidth=100.0), training=True)
    assert len(set(Heft().solve(made).values())) == 1


def test_more_devices_than_candidates() -> None:
    made = problem(chain(4), machine([2**20] * (MAX_CANDIDATES + 8)))
    assert len(set(Heft().solve(made).values())) == 1
    b = Builder()
    b.returns(*(b.add_op(b.graph.inputs[0] if b.graph.inputs else b.input("x", 4)) for _ in range(40)))
    made = problem(b.graph, machine([2**20] * 40))
    assert len(set(Heft().solve(made).values())) == 40  # forty ops that depend on nothing, forty devices


def test_mean_link_is_over_all_pairs() -> None:
    made = problem(chain(1), machine([2**20] * 3, bandwidth=4.0, latency=2.0))
    assert mean_link(made) == pytest.approx((2.0, 0.25))
    assert mean_link(problem(chain(1), machine([2**20]))) == (0.0, 0.0)


def test_memory_decides_where_time_would_not() -> None:
    made = problem(chain(6), machine([2 * 16, 4 * 16]))
    assert check(made, Heft().solve(made)) == []


def test_views_take_no_time_and_no_place() -> None:
    b = Builder()
    at = b.add_op(b.input("x", 4), name="make")
    for i in range(3):
        at = b.view(at, name=f"view{i}")
    b.returns(b.add_op(at, name="use"))
    made = problem(b.graph, machine([2**20] * 2), cost=Roofline())
    assert len(set(Heft().solve(made).values())) == 1
