from __future__ import annotations

import dataclasses
from math import inf

import pytest

from tests.compiler.graphs import chain
from tests.placement.graphs import machine, perceptron
from tests.placement.plans import MACHINE, captured, plan_of
from torchplace.compiler.capture import Captured
from torchplace.errors import PlanError
from torchplace.placement.predicted import Predicted


def test_what_a_plan_knows() -> None:
    plan = plan_of()
    assert plan.devices_used == ("d0", "d1", "d2")
    assert plan.ops_on == {"d0": 6, "d1": 1, "d2": 1}
    assert plan.parameter_devices() == {"w0": "d0", "w1": "d1", "w2": "d2"}
    assert plan.parameter_bytes == {"d0": 32, "d1": 16, "d2": 8}
    assert plan.device_map() == {"w0": 0, "w1": 1, "w2": 2}
    assert plan_of(dict.fromkeys(plan.placement, "d1")).device_map() == {"": 1}
    assert plan.bound == "critical path with transfers"
    assert plan.lower_bound == pytest.approx(3.016), (
        "layer0, layer1, and of two that take 16 bytes from it one elsewhere"
    )
    assert plan.gap == pytest.approx(plan.predicted.step_time / 3.016 - 1)


def test_the_gap_where_the_bound_is_zero() -> None:
    plan = plan_of()
    assert dataclasses.replace(plan, lower_bound=0.0).gap == inf
    assert dataclasses.replace(plan, lower_bound=0.0, predicted=Predicted(0.0)).gap == 0.0


def test_it_is_found_again_for_another_capture_of_the_same_graph() -> None:
    plan = plan_of()
    other = perceptron()
    for i, op in enumerate(other.ops):
        op.name = f"renamed_{i}"
    placement = plan.placement_for(captured(other))
    assert placement is not None
    assert list(placement) == [op.name for op in other.ops]
    assert list(placement.values()) == list(plan.placement.values())


def test_it_does_not_fit_another_graph() -> None:
    plan = plan_of()
    assert plan.placement_for(captured(perceptron((8, 4, 3)))) is None
    assert plan.placement_for(captured(chain(3))) is None


def test_refusals_say_what_differs() -> None:
    plan = plan_of()
    other = captured(chain(3))
    assert str(plan.refuse(other)) == (
        f"the plan was made for another graph: it is of 'toy', forward only, 8 ops, fingerprint {plan.fingerprint}; "
        f"this one is 'toy', forward only, 3 ops, fingerprint {other.graph.fingerprint()}; "
        "make the plan with the model, inputs and mode that it will run with"
    )
    graph = chain(3)
    training = Captured(graph, (graph, graph), {})
    assert isinstance(plan.refuse(training), PlanError)
    assert str(plan.refuse(training)).endswith("forward and backward, 3 ops, fingerprint "
        f"{graph.fingerprint()}; pass training=True to tp.plan")  # fmt: skip
    backward = dataclasses.replace(plan, training=True)
    assert str(backward.refuse(other)).endswith(
        "; pass training=False to tp.plan, or call the model with gradients enabled"
    )


def test_a_topology_of_another_structure_is_refused() -> None:
    plan = plan_of()
    plan.check_topology(MACHINE)
    plan.check_topology(machine([5, 6, 7], [1.0, 2.0, 3.0], bandwidth=1.0))  # measured anew, the same machine
    with pytest.raises(PlanError) as caught:
        plan.check_topology(machine([1, 1]))
    message = str(caught.value)
    assert "topology 'machine' with devices d0, d1, d2; it was given 'machine' with devices d0, d1 (" in message
    assert MACHINE.digest in message


def test_shown() -> None:
    plan = plan_of()
    time = f"{plan.predicted.step_time:.3g} s predicted"
    assert repr(plan) == f"<Plan of 'toy' on 'machine': 8 ops on 3 device(s), {time}, solver 'by hand'>"
    assert "lower bound 3.02 s (critical path with transfers)" in str(plan)
