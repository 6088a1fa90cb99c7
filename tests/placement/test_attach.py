from __future__ import annotations

from hypothesis import given

from tests.compiler.graphs import Builder
from tests.placement.graphs import perceptron, training_graphs
from torchplace.compiler.graph import Graph
from torchplace.compiler.passes.phases import assign_phases
from torchplace.placement.attach import attach


def test_backward_ops_stand_with_the_layer_that_they_come_from() -> None:
    anchor = attach(perceptron((8, 4, 2)))
    assert {op: a for op, a in anchor.items() if op != a} == {
        "grad2": "layer2",
        "back2": "layer2",
        "grad1": "layer1",
        "back1": "layer1",
        "grad0": "layer0",
    }


def test_an_update_stands_with_the_first_user_of_its_buffer() -> None:
    b = Builder()
    x, count = b.input("x", 4), b.buffer("count", 1)
    more = b.add_op(count, name="more")
    at = b.add_op(x, name="middle")
    b.returns(b.add_op(at, name="last"))
    b.update(count, more, name="write")
    assign_phases(b.graph)
    assert attach(b.graph)["write"] == "more"


def tied() -> Graph:
    """A parameter used at the start and at the end, with a gradient of two parts."""
    b = Builder()
    w = b.parameter("w", 4)
    first = b.op("aten.mul.Tensor", b.input("x", 4), w, name="embed", module="wte")
    middle = b.op("aten.tanh.default", first, name="middle", module="act")
    b.returns(b.op("aten.mul.Tensor", middle, w, name="head", module="lm_head"))
    tangent = b.add("t", "tangent", 4)
    part = b.op("aten.mul.Tensor", tangent, middle, name="head_grad", module="lm_head")
    back = b.op("aten.mul.Tensor", tangent, w, name="head_back", module="lm_head")
    back = b.op("aten.tanh_backward.default", back, middle, name="middle_back", module="act")
    other = b.op("aten.mul.Tensor", back, b.graph.inputs[1], name="embed_grad", module="wte")
    b.gradient(w, b.op("aten.add.Tensor", part, other, name="sum"))
    assign_phases(b.graph)
    return b.graph


def test_each_user_of_a_tied_parameter_has_its_own_part_of_the_gradient() -> None:
    anchor = attach(tied())
    assert anchor["head_grad"] == anchor["head_back"] == "head"
    assert anchor["embed_grad"] == "embed"
    assert anchor["sum"] == "embed"  # the parts meet at the owner
    assert anchor["middle_back"] == "middle"


def test_gradients_that_join_stand_with_the_earliest() -> None:
    b = Builder()
    x = b.add_op(b.input("x", 4), b.parameter("w0", 4), name="fork")
    branch = b.op("aten.mul.Tensor", x, b.parameter("w1", 4), name="branch")
    b.returns(b.op("aten.mul.Tensor", branch, b.parameter("w2", 4), name="tail"))
    tangent = b.add("t", "tangent", 4)
    w0, w1, w2 = (v for v in b.graph.inputs if v.kind == "parameter")
    one = b.op("aten.mul.Tensor", tangent, w2, name="tail_back")
    two = b.op("aten.mul.Tensor", one, w1, name="branch_back")
    both = b.op("aten.add.Tensor", one, two, name="join")
    b.gradient(w0, both)
    b.gradient(w1, b.op("aten.mul.Tensor", both, 2))
    assign_phases(b.graph)
    assert attach(b.graph)["join"] == "branch"


def test_of_several_sources_the_one_in_the_same_module_counts() -> None:
    b = Builder()
    w = b.parameter("w", 4)
    first = b.op("aten.mul.Tensor", b.input("x", 4), w, name="first", module="one")
    second = b.op("aten.tanh.default", first, name="second", module="two")
    b.returns(b.op("aten.tanh.default", second, name="third", module="three"))
    taken = (b.add("t", "tangent", 4), first, second)
    back = b.op("aten.foo.default", *taken, name="back", module="one")
    other = b.op("aten.foo.default", *taken, name="other")
    b.gradient(w, b.add_op(back, other, name="sum"))
    b.gradient(b.parameter("v", 4), b.op("aten.mul.Tensor", back, other))
    assign_phases(b.graph)
    assert attach(b.graph)["back"] == "first"
    assert attach(b.graph)["other"] == "second"  # of no module: the last


def test_a_weight_grad_op_that_takes_nothing_of_the_forward_pass_stands_with_its_parameter() -> None:
    b = Builder()
    bias = b.parameter("bias", 4)
    early = b.add_op(b.input("x", 4), bias, name="early", module="one")
    b.returns(b.add_op(early, name="late", module="two"))
    b.gradient(bias, b.op("aten.sum.default", b.add("t", "tangent", 4), name="grad"))
    assign_phases(b.graph)
    assert attach(b.graph)["grad"] == "early"


def test_what_has_no_inputs_stands_with_its_user() -> None:
    b = Builder()
    w = b.parameter("w", 4)
    early = b.op("aten.mul.Tensor", b.input("x", 4), w, name="early")
    b.returns(b.add_op(early, name="late"))
    zeros = b.op("aten.full.default", [4], 0.0, name="zeros")
    b.gradient(w, b.op("aten.mul.Tensor", zeros, w, name="grad"))
    assign_phases(b.graph)
    assert attach(b.graph)["grad"] == attach(b.graph)["zeros"] == "early"


@given(training_graphs())
def test_every_op_stands_with_a_forward_op(graph: Graph) -> None:
    anchor = attach(graph)
    forward = {op.name for op in graph.ops if op.phase == "forward" and (op.outputs or not op.mutates)}
    assert list(anchor) == [op.name for op in graph.ops]
    assert all(anchor[name] == name for name in forward)
    if forward:
        assert set(anchor.values()) <= forward
