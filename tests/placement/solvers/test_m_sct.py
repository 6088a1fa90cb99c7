from __future__ import annotations

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import Table, machine, problem
from torchplace.placement.check import check
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.m_etf import MemoryEtf
from torchplace.placement.solvers.m_sct import MemorySct


def rivals(size: int = 50) -> Problem:
    """`a` on one device, `b` on the other, at the same time; `child` takes much of `a` and something of `b`.

    `rival` takes something of `a`, too, and could start at once where `a` was; it takes long.
    """
    b = Builder()
    one = b.many("aten.split.Tensor", b.input("x", 4), 2, shapes=[(4000,), (size,)], name="a")
    other = b.add_op(b.input("y", 4), name="b", shape=(100,))
    rival = b.add_op(one.outputs[1], name="rival", shape=(1,))
    child = b.add_op(one.outputs[0], other, name="child", shape=(1,))
    made = machine([2**20] * 2, bandwidth=400.0)
    return problem(b.returns(rival, child), made, pins={"a": "d0", "b": "d1"}, cost=Table({"rival": 2.0}))


def test_a_device_waits_for_the_favourite_child() -> None:
    made = rivals()
    # What `b` made arrives after a second. By start times alone `rival` is on d0 meanwhile, and holds `child` up.
    assert MemoryEtf().solve(made)["rival"] == "d0"
    assert MemorySct().solve(made) == {"a": "d0", "b": "d1", "rival": "d1", "child": "d0"}


def test_what_is_urgent_is_not_held_up() -> None:
    made = rivals(size=0)  # the rival's input is everywhere at once
    assert MemorySct().solve(made)["rival"] == "d0"


def test_what_is_done_before_the_child_can_start_goes_ahead() -> None:
    b = rivals()
    made = problem(b.graph, b.topology, pins=b.pins, cost=Table({"rival": 0.5}))
    assert MemorySct().solve(made)["rival"] == "d0"


def test_without_time_for_the_linear_program_it_answers() -> None:
    made = rivals()
    assert check(made, MemorySct().solve(made, time_limit=0.0)) == []


def test_a_slow_link_is_not_crossed() -> None:
    assert len(set(MemorySct().solve(problem(chain(5), machine([2**20] * 3, bandwidth=1.0))).values())) == 1


def test_a_full_device_is_passed_over() -> None:
    made = problem(chain(6), machine([2 * 16, 4 * 16]))
    assert check(made, MemorySct().solve(made)) == []
