from __future__ import annotations

import torch
from hypothesis import given
from torch import nn

from tests.compiler.graphs import Builder, graphs
from torchplace.compiler.dry import capture_dry
from torchplace.compiler.graph import Graph, Value
from torchplace.compiler.passes.phases import ancestors, assign_phases


def phases(graph: Graph) -> dict[str, str]:
    assign_phases(graph)
    return {op.name: op.phase for op in graph.ops}


def test_two_layers() -> None:
    b = Builder()
    x, w1, w2, t = b.input("x", 4), b.parameter("w1", 4), b.parameter("w2", 4), b.add("t", "tangent", 4)
    h = b.add_op(x, w1, name="h")
    y = b.add_op(h, w2, name="y")
    b.returns(y)
    b.gradient(w2, b.add_op(b.view(h, "ht"), t, name="gw2"))
    gh = b.add_op(t, b.view(w2, "w2t"), name="gh")
    b.gradient(w1, b.add_op(b.view(x, "xt"), gh, name="gw1"))
    b.gradient(x, b.add_op(gh, w1, name="gx"))
    assert phases(b.graph) == {
        "h": "forward",
        "y": "forward",
        "ht": "weight-grad",
        "gw2": "weight-grad",
        "w2t": "backward",
        "gh": "backward",
        "xt": "weight-grad",
        "gw1": "weight-grad",
        "gx": "backward",
    }


def test_partial_gradients_of_a_tied_parameter_are_weight_grads() -> None:
    b = Builder()
    w, v, t = b.parameter("w", 4), b.parameter("v", 4), b.add("t", "tangent", 4)
    through = b.add_op(t, v, name="through")
    one, two = b.add_op(t, name="one"), b.add_op(through, name="two")
    b.gradient(w, b.add_op(one, two, name="both"))
    b.gradient(v, b.add_op(through, name="gv"))
    assert phases(b.graph) == {
        "through": "backward",
        "one": "weight-grad",
        "two": "weight-grad",
        "both": "weight-grad",
        "gv": "weight-grad",
    }


def test_an_op_of_two_gradients_is_backward() -> None:
    b = Builder()
    w, v, t = b.parameter("w", 4), b.parameter("v", 4), b.add("t", "tangent", 4)
    both = b.many("aten.native_layer_norm_backward.default", t, shapes=[(4,), (4,)], name="fused")
    b.gradient(w, both.outputs[0])
    b.gradient(v, both.outputs[1])
    assert phases(b.graph) == {"fused": "backward"}


def test_the_gradient_of_an_input_is_backward() -> None:
    b = Builder()
    x, t = b.input("x", 4), b.add("t", "tangent", 4)
    x.path = "x"
    assert phases(b.gradient(x, b.add_op(t, name="gx"))) == {"gx": "backward"}


def test_writes_to_state_are_forward_and_all_that_they_need() -> None:
    b = Builder()
    x, mean, w, t = b.input("x", 4), b.buffer("mean", 4), b.parameter("w", 4), b.add("t", "tangent", 4)
    new = b.add_op(x, mean, name="new")
    b.gradient(w, b.add_op(t, new, name="gw"))
    b.update(mean, new, name="write")
    assert phases(b.graph) == {"new": "forward", "gw": "weight-grad", "write": "forward"}


def test_what_is_returned_and_a_gradient_too_is_forward() -> None:
    b = Builder()
    w, t = b.parameter("w", 4), b.add("t", "tangent", 4)
    y = b.add_op(w, t, name="y")
    b.returns(y)
    assert phases(b.gradient(w, y)) == {"y": "forward"}


def test_without_gradients_all_is_forward() -> None:
    b = Builder()
    x = b.input("x", 4)
    assert set(phases(b.returns(b.add_op(b.view(b.add_op(x))))).values()) == {"forward"}


@given(graphs())
def test_what_forward_needs_is_forward(graph: Graph) -> None:
    found = phases(graph)
    needed = [v for o in graph.outputs if o.kind == "output" for v in [o.value] if isinstance(v, Value)]
    needed += [v for op in graph.ops if op.mutates for v in op.inputs]
    for op in reversed(graph.ops):
        if any(v in needed for v in op.outputs):
            assert found[op.name] == "forward"
            needed += op.inputs
        elif not op.mutates:
            assert found[op.name] != "forward"


@given(graphs())
def test_nothing_but_weight_grads_waits_for_weight_grads(graph: Graph) -> None:
    found = phases(graph)
    for op in graph.ops:
        for value in op.inputs:
            if value.producer is not None and found[value.producer.name] == "weight-grad":
                assert found[op.name] == "weight-grad" or not _reaches_a_gradient(graph, op.outputs)


def _reaches_a_gradient(graph: Graph, values: tuple[Value, ...]) -> bool:
    returned = [o.value for o in graph.outputs if o.kind == "gradient"]
    makers = ancestors(graph, returned)
    return any(v in returned or any(u in makers for u in graph.users[v.name]) for v in values)


def test_a_captured_network() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    [captured] = capture_dry(model, (torch.randn(3, 4),), {}, training=True)
    found = {op.name: op.phase for op in captured.graph.ops}
    forward = ancestors(captured.graph, (o.value for o in captured.graph.outputs if o.kind == "output"))
    assert {name for name, phase in found.items() if phase == "forward"} == {op.name for op in forward}
    gradients = {o.path: o.value for o in captured.graph.outputs if o.kind == "gradient" and o.path}
    assert list(gradients) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert all(v.producer.phase == "weight-grad" for v in gradients.values())
    backward = [op.target for op in captured.graph.ops if op.phase == "backward"]
    assert backward.count("aten.mm.default") == 1, "the gradient of the hidden layer; the input's is not wanted"
    assert backward.count("aten.threshold_backward.default") == 1
