from __future__ import annotations

import dataclasses
from math import inf

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.compiler.graphs import chain
from tests.placement.graphs import machine, perceptron
from tests.placement.plans import MACHINE, captured, plan_of
from torchplace.compiler.capture import Captured
from torchplace.compiler.dry import capture_dry
from torchplace.errors import PlanError
from torchplace.placement.device_map import device_map, split_modules
from torchplace.placement.predicted import Predicted
from torchplace.placement.timeline import Timeline


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


def test_predicted_figures_are_those_of_the_timeline() -> None:
    plan = plan_of()
    p, timeline = plan.predicted, plan.timeline
    assert timeline is not None
    assert p.step_time == timeline.duration
    assert p.peak_memory == timeline.peak_memory
    assert p.busy == {"d0": 6.0, "d1": 1.0, "d2": 1.0}
    assert sum(p.bytes_in.values()) == sum(p.bytes_out.values()) > 0
    assert sum(p.link_bytes.values()) == 2 * sum(p.bytes_in.values()), "every transfer crosses two links"
    assert {d: sum(parts.values()) for d, parts in p.memory.items()} == p.peak_memory
    assert p.memory["d2"] == {"parameters": 8, "activations": 16, "gradients": 8, "caller": 8}, "layer1 comes as a copy"
    empty = Predicted.of(Timeline(), (), machine([1]), {})
    assert empty == Predicted(0.0, {}, {}, {"d0": 0}, {"d0": 0}, {"d0": 0}, {})


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


def expand(mapping: dict[str, int], path: str) -> int:
    """As Accelerate reads a device map: the entry that is the parameter, or a module around it."""
    [found] = {key for key in mapping if key in ("", path) or path.startswith(f"{key}.")}
    return mapping[found]


NAMES = st.sampled_from(["a", "b", "1", "10", "layer"])
LEAVES = st.sampled_from(["weight", "bias"])
PATHS = st.tuples(st.lists(NAMES, max_size=3), LEAVES).map(lambda p: ".".join([*p[0], p[1]]))
PARAMETERS = st.dictionaries(PATHS, st.integers(0, 2), max_size=8)


@given(PARAMETERS)
def test_device_maps_expand_to_the_parameters_devices(parameters: dict[str, int]) -> None:
    mapping = device_map(parameters)
    assert {path: expand(mapping, path) for path in parameters} == parameters


@given(PARAMETERS)
def test_device_maps_are_minimal(parameters: dict[str, int]) -> None:
    mapping = device_map(parameters)
    for key in mapping:
        assert any(key in ("", p) or p.startswith(f"{key}.") for p in parameters), "no entry for nothing"
        if key:
            parent = key.rpartition(".")[0]
            below = {d for p, d in parameters.items() if not parent or p.startswith(f"{parent}.")}
            assert len(below) > 1, f"{parent!r} would have done"


def test_device_maps_by_hand() -> None:
    assert device_map({}) == {}
    assert device_map({"h.0.w": 0, "h.1.w": 0, "h.10.w": 1, "head": 1}) == {"h.0": 0, "h.1": 0, "h.10": 1, "head": 1}
    assert device_map({"h.0.a.w": 0, "h.0.a.b": 0, "h.0.c.w": 1}) == {"h.0.a": 0, "h.0.c": 1}


def test_modules_that_a_device_map_cannot_say_are_named() -> None:
    made = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 8), nn.GELU()), nn.Linear(8, 2))
    [found] = capture_dry(made, (torch.randn(3, 4),), {}, training=True)
    by_module = {op.name: "d1" if op.module.startswith("1") else "d0" for op in found.graph.ops}
    parameters = {name: "d1" if name.startswith("1") else "d0" for name, _ in made.named_parameters()}
    assert split_modules(found.graph, by_module, parameters) == {}
    gelu = next(op.name for op in found.graph.ops if "gelu" in op.target)
    assert split_modules(found.graph, {**by_module, gelu: "d0"}, parameters) == {"1": ["d0", "d1"]}
    elsewhere = dict.fromkeys(by_module, "d1")
    assert split_modules(found.graph, elsewhere, dict.fromkeys(parameters, "d0")) == {"": ["d1"]}
    apart = split_modules(found.graph, by_module, {**parameters, "2.bias": "d1"})
    assert apart == {"2": ["d0"]}, "a weight here and a bias there"


def test_shown() -> None:
    plan = plan_of()
    time = f"{plan.predicted.step_time:.3g} s predicted"
    assert repr(plan) == f"<Plan of 'toy' on 'machine': 8 ops on 3 device(s), {time}, solver 'by hand'>"
    assert "lower bound 3.02 s (critical path with transfers)" in str(plan)
