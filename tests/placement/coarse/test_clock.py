from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import Table, machine, perceptron, problem, problems
from torchplace.placement.coarse.clock import Clock
from torchplace.placement.coarse.model import Coarse
from torchplace.placement.problem import Problem


@given(problems(), st.integers(1, 12), st.data())
def test_no_quicker_than_any_device_and_the_sum_on_one(made: Problem, most: int, data: st.DataObject) -> None:
    coarse = Coarse.of(made, most)
    clock = Clock(coarse)
    devices = range(len(made.devices))
    placed = [data.draw(st.sampled_from(devices)) for _ in coarse.items]
    busy = [0.0] * len(devices)
    for item, device in enumerate(placed):
        busy[device] += coarse.time[coarse.kind_of[device]][item]
    seconds = clock.step_time(placed)
    assert seconds >= max(busy, default=0.0) * (1 - 1e-9)
    assert clock.step_time(placed) == seconds, "asked again"
    assert clock.step_time([0] * len(placed)) == pytest.approx(sum(coarse.time[coarse.kind_of[0]]))


@given(problems(), st.data())
def test_a_limit_only_cuts_short(made: Problem, data: st.DataObject) -> None:
    coarse = Coarse.of(made, 100)
    clock = Clock(coarse)
    placed = [data.draw(st.integers(0, len(made.devices) - 1)) for _ in coarse.items]
    whole = clock.step_time(placed)
    limit = data.draw(st.floats(0.0, 20.0))
    cut = clock.step_time(placed, limit)
    assert cut == whole if whole <= limit else limit < cut <= whole


def test_a_transfer_counts() -> None:
    clock = Clock(Coarse.of(problem(chain(2), machine([2**20] * 2, bandwidth=16.0, latency=5.0)), 10))
    assert clock.step_time([0, 0]) == 2.0
    assert clock.step_time([0, 1]) == pytest.approx(1 + (5 + 1) + 1), "5 s, and 16 bytes at 16 bytes/s"


def test_links_move_one_value_after_the_other() -> None:
    b = Builder()
    x = b.input("x", 4)
    b.returns(*(b.add_op(b.add_op(x)) for _ in range(2)))
    made = problem(b.graph, machine([2**20] * 2, bandwidth=16.0), cost=Table({"v0": 0.0, "v2": 0.0}))
    coarse = Coarse.of(made, 10)
    assert [ops[0] for ops in coarse.items] == ["v0", "v1", "v2", "v3"]
    assert Clock(coarse).step_time([0, 1, 0, 0]) == pytest.approx(2.0), "1 s of transfer, 1 s of v1; v3 meanwhile"
    assert Clock(coarse).step_time([0, 1, 0, 1]) == pytest.approx(3.0), "1 s each; the first op hides behind the second"


def test_parts_run_one_after_the_other_and_gradients_go_home() -> None:
    made = problem(perceptron((4,)), machine([2**20] * 2, bandwidth=16.0), training=True)
    coarse = Coarse.of(made, 10)
    assert [ops[0] for ops in coarse.items] == ["layer0", "grad0"]
    assert Clock(coarse).step_time([0, 1]) == pytest.approx(1 + 1 + 1), "no saved value is made; the gradient goes home"


def test_what_others_wait_for_comes_first() -> None:
    b = Builder()
    x = b.input("x", 4)
    b.returns(b.add_op(x, name="stays"), b.add_op(b.add_op(x, name="goes"), name="there"))
    coarse = Coarse.of(problem(b.graph, machine([2**20] * 2)), 10)
    placed = [0, 0, 1]
    assert Clock(coarse).step_time(placed) == pytest.approx(2.0, abs=0.1)
    goes, there = (coarse.item_of[op] for op in ("goes", "there"))
    assert Clock(coarse).critical(placed) == [there, goes]


def test_the_critical_path_passes_through_a_busy_device() -> None:
    b = Builder()
    x = b.input("x", 4)
    b.returns(*(b.add_op(x) for _ in range(3)))
    coarse = Coarse.of(problem(b.graph, machine([2**20] * 2)), 10)
    assert Clock(coarse).critical([0, 0, 1]) == [1, 0]
