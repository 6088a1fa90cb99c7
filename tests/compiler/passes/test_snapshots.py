"""State that a later micro-batch writes before the backward of an earlier one reads it."""

from __future__ import annotations

from hypothesis import given

from tests.compiler.graphs import Builder, graphs
from torchplace.compiler.graph import Graph
from torchplace.compiler.passes.phases import assign_phases
from torchplace.compiler.passes.snapshots import snapshot_state


def stateful() -> Builder:
    """x * b -> output; b is written; its gradient wants b as it was."""
    b = Builder()
    x, w, mean = b.input("x", 4), b.parameter("w", 4), b.buffer("b", 4)
    y = b.op("aten.mul.Tensor", x, mean, name="y")
    b.returns(b.op("aten.mul.Tensor", y, w, name="z"))
    tangent = b.add("t", "tangent", 4)
    b.gradient(w, b.op("aten.mul.Tensor", tangent, mean, name="g"))
    b.update(mean, y, name="write")
    assign_phases(b.graph)
    return b


def names(graph: Graph) -> list[str]:
    return [op.name for op in graph.ops]


def test_the_backward_reads_a_copy_that_the_forward_has_made() -> None:
    b = stateful()
    snapshot_state(b.graph)
    b.graph.check()
    assert names(b.graph) == ["b.before", "y", "z", "g", "write"]
    copy, *_ = b.graph.ops
    assert (copy.target, copy.phase, copy.outputs[0].base) == ("aten.clone.default", "forward", None)
    assert [v.name for v in b.graph.op("g").inputs] == ["t", "b.before"]
    assert [v.name for v in b.graph.op("y").inputs] == ["x", "b"], "the forward reads the state itself"


def test_state_that_nobody_writes_is_not_copied() -> None:
    b = stateful()
    b.graph.ops = [op for op in b.graph.ops if op.name != "write"]
    before = str(b.graph)
    snapshot_state(b.graph)
    assert str(b.graph) == before


def test_views_of_state_are_copied_behind_what_makes_them() -> None:
    b = Builder()
    x, w, mean = b.input("x", 4), b.parameter("w", 4), b.buffer("b", 4)
    seen = b.view(mean, name="seen")
    y = b.op("aten.mul.Tensor", x, seen, name="y")
    b.returns(y)
    b.gradient(w, b.op("aten.mul.Tensor", b.add("t", "tangent", 4), seen, name="g"))
    b.update(mean, y, name="write")
    assign_phases(b.graph)
    snapshot_state(b.graph)
    b.graph.check()
    assert names(b.graph) == ["seen", "seen.before", "y", "g", "write"]
    assert [v.name for v in b.graph.op("g").inputs] == ["t", "seen.before"]


def test_batch_norm_s_backward_is_not_handed_statistics_in_training() -> None:
    for training, wanted in ((True, ["t", "x", "w"]), (False, ["t", "x", "w", "m.before", "v.before"])):
        b = Builder()
        x, w, m, v = b.input("x", 4), b.parameter("w", 4), b.buffer("m", 4), b.buffer("v", 4)
        y = b.op("aten.mul.Tensor", x, w, name="y")
        b.returns(y)
        tangent = b.add("t", "tangent", 4)
        args = (tangent, x, w, m, v, None, None, training, 1e-5, [True, True, True])
        back = b.many("aten.native_batch_norm_backward.default", *args, shapes=[(4,)] * 3, name="back")
        b.gradient(w, back.outputs[1])
        b.update(m, y, name="write m")
        b.update(v, y, name="write v")
        assign_phases(b.graph)
        snapshot_state(b.graph)
        b.graph.check()
        assert [i.name for i in back.inputs] == wanted
        assert len(back.args) == len(args)


@given(graphs(max_ops=20))
def test_no_backward_op_reads_what_is_written(graph: Graph) -> None:
    assign_phases(graph)
    snapshot_state(graph)
    graph.check()
    written = {name for op in graph.ops for name in op.mutates}
    root = graph.storage()
    for op in (op for op in graph.ops if op.phase != "forward" and not op.is_view):
        direct = [v for v in op.inputs if v.producer is None or v.producer.phase == "forward"]
        assert not any(root[v.name] in written for v in direct)


@given(graphs(max_ops=20))
def test_a_second_time_nothing_changes(graph: Graph) -> None:
    assign_phases(graph)
    snapshot_state(graph)
    before = str(graph)
    snapshot_state(graph)
    assert str(graph) == before
