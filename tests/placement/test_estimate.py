from __future__ import annotations

import pytest

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import FLOAT, machine, problem
from torchplace.compiler.graph import Graph


def test_a_chain_on_one_device_is_the_sum() -> None:
    made = problem(chain(3), machine([2**20], [2.0]))
    evaluation = made.evaluate(dict.fromkeys(made.ops, "d0"))
    assert evaluation.step_time == 6.0
    assert evaluation.feasible
    assert evaluation.peak_memory == {"d0": 12 * FLOAT}


def test_a_transfer_counts() -> None:
    made = problem(chain(2), machine([2**20] * 2, bandwidth=16.0, latency=5.0))
    assert made.evaluate({"v0": "d0", "v1": "d1"}).step_time == pytest.approx(1 + (5 + 16 / 16) + 1)


def test_branches_overlap() -> None:
    b = Builder()
    x = b.input("x", 4)
    b.returns(b.add_op(x), b.add_op(x))
    made = problem(b.graph, machine([2**20] * 2))
    assert made.evaluate({"v0": "d0", "v1": "d1"}).step_time == 1.0
    assert made.evaluate({"v0": "d0", "v1": "d0"}).step_time == 2.0


def test_what_does_not_fit_is_said() -> None:
    made = problem(chain(2), machine([4 * FLOAT] * 2))
    evaluation = made.evaluate({"v0": "d1", "v1": "d1"})
    assert not evaluation.feasible
    assert evaluation.reason == "d1 lacks 16 bytes (needs 32 bytes, has 16 bytes)"


def test_no_op_takes_no_time() -> None:
    assert problem(Graph("empty"), machine([1])).evaluate({}).step_time == 0.0


def test_in_steady_state_the_busiest_device_or_link_counts() -> None:
    made = problem(chain(4), machine([2**20] * 2, bandwidth=16.0), objective="throughput")
    split = made.evaluate({"v0": "d0", "v1": "d0", "v2": "d1", "v3": "d1"})
    assert (split.period, split.value) == (2.0, 2.0), "two ops on each; 16 bytes at 16 bytes/s are less"
    assert made.evaluate({"v0": "d0", "v1": "d1", "v2": "d0", "v3": "d1"}).period == 2.0, "two values there, one back"
    slow = problem(chain(4), machine([2**20] * 2, bandwidth=2.0), objective="throughput")
    assert slow.evaluate({"v0": "d0", "v1": "d1", "v2": "d0", "v3": "d1"}).value == 16.0, "the links decide"


def test_a_value_is_sent_once_to_each_device() -> None:
    b = Builder()
    made = b.add_op(b.input("x", 4))
    b.returns(b.add_op(made), b.add_op(made))
    slow = problem(b.graph, machine([2**20] * 2, bandwidth=1.0), objective="throughput")
    assert slow.evaluate({"v0": "d0", "v1": "d1", "v2": "d1"}).value == 16.0
