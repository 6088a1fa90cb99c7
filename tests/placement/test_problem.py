from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain, placements
from tests.placement.graphs import FLOAT, Table, machine, perceptron, problem, problems
from torchplace.compiler.graph import Op
from torchplace.errors import InfeasibleError, OptionError
from torchplace.placement.check import check
from torchplace.placement.problem import Edge, Evaluation
from torchplace.placement.topology import Device


def test_edges_join_each_pair_once() -> None:
    b = Builder()
    two = b.many("aten.split.Tensor", b.input("x", 4), 2, shapes=[(2,), (2,)], name="two")
    last = b.add_op(*two.outputs, two.outputs[0], name="last")
    made = problem(b.returns(last), machine([2**20]))
    assert made.edges == (Edge("two", "last", ("two#0", "two#1")),)


def test_durations_are_asked_once_for_devices_that_are_alike() -> None:
    asked: list[tuple[str, str]] = []

    class Counting:
        name = "counting"

        def time(self, op: Op, device: Device) -> float:
            asked.append((op.name, device.name))
            return 2.0 * device.launch_overhead

    made = problem(chain(2), machine([2**20, 2**10, 2**20], [1.0, 1.0, 3.0]), cost=Counting())
    assert [made.duration("v0", d) for d in made.devices] == [2.0, 2.0, 6.0]
    assert made.durations("d0") is made.durations("d1")  # memory makes no difference to time
    assert len(asked) == 4


@pytest.mark.parametrize("time", [float("nan"), float("inf"), -1.0])
def test_a_cost_that_is_no_time(time: float) -> None:
    made = problem(chain(1), machine([2**20]), cost=Table(default=time))
    with pytest.raises(OptionError, match=r"cost 'table' gives .* for op 'v0' on 'd0'"):
        made.duration("v0", "d0")


def test_delay_is_latency_and_bytes_over_bandwidth() -> None:
    made = problem(chain(1), machine([2**20] * 2, bandwidth=8.0, latency=3.0))
    assert made.delay("v0", "d0", "d1") == pytest.approx(3.0 + 4 * FLOAT / 8.0)
    assert made.delay("v0", "d1", "d1") == 0.0


def test_resident_memory_is_state_and_what_is_saved() -> None:
    made = problem(perceptron((8, 4)), machine([2**20] * 2), training=True)
    placement = {op: "d1" if op == "layer1" else "d0" for op in made.ops}
    # w0 and its gradient, and what layer 0 made; w1 and its gradient.
    assert made.resident(placement) == {"d0": (16 + 8) * FLOAT, "d1": 8 * FLOAT}
    assert made.owners(placement) == {"w0": "d0", "w1": "d1"}


def test_state_that_no_op_uses_is_on_the_first_device() -> None:
    b = Builder()
    b.buffer("unused", 10)
    b.returns(b.add_op(b.input("x", 4)))
    made = problem(b.graph, machine([2**20] * 2))
    assert made.resident({"v0": "d1"}) == {"d0": 10 * FLOAT, "d1": 0}


def test_fits_is_exact() -> None:
    made = problem(chain(2), machine([8 * FLOAT, 7 * FLOAT]))
    assert made.fits(dict.fromkeys(made.ops, "d0"))
    assert not made.fits(dict.fromkeys(made.ops, "d1"))
    assert made.fits(dict.fromkeys(made.ops, "d1"), {"d0": 0, "d1": 8 * FLOAT})


def test_limits_keep_a_share_of_the_transient_bytes_free() -> None:
    made = problem(chain(2), machine([1000, 10]))
    assert made.transient_bytes == 12 * FLOAT  # the input, and the two values while the second op runs
    assert made.limits(0.0) == {"d0": 1000, "d1": 10}
    assert made.limits(0.5) == {"d0": 1000 - 24, "d1": 0}
    assert made.limits(1.0) == {"d0": 1000 - 48, "d1": 0}


def test_the_evaluator_that_was_given_is_asked() -> None:
    def evaluate(placement: Mapping[str, str]) -> Evaluation:
        return Evaluation(float(len(placement)), {}, True)

    made = problem(chain(3), machine([2**20]), evaluate=evaluate)
    assert made.evaluate(dict.fromkeys(made.ops, "d0")).step_time == 3.0


def test_pins_that_clash_are_no_problem_at_all() -> None:
    with pytest.raises(InfeasibleError, match="clash"):
        problem(chain(2), machine([2**20] * 2), pins={"*": "d0", "v1": "d1"})


@given(st.data())
def test_fits_agrees_with_the_checker(data: st.DataObject) -> None:
    made = data.draw(problems())
    placement = data.draw(placements(made.graph, made.devices))
    faults = [f for f in check(made, placement) if "too few" in f]
    if not check(made, placement) or faults:
        assert made.fits(placement) == (not faults)
