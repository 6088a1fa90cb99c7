"""Tasks: long stretches of one device and phase that never wait for each other in a circle."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, devices, graphs, placements
from torchplace.compiler.graph import Graph, Value
from torchplace.compiler.passes.phases import assign_phases
from torchplace.compiler.tasks import Task, after_loss, make_tasks, stages, state_readers, visits


def text(tasks: Sequence[Task]) -> list[str]:
    return [f"{t.device}@{t.level} {t.phase}: {' '.join(op.name for op in t.ops)}" for t in tasks]


def chain(devices_of: Sequence[str]) -> tuple[Graph, dict[str, str]]:
    """x -> f0 -> f1... forward only."""
    b = Builder()
    last = b.input("x", 4)
    for i in range(len(devices_of)):
        last = b.op("aten.relu.default", last, name=f"f{i}")
    b.returns(last)
    assign_phases(b.graph)
    return b.graph, {f"f{i}": device for i, device in enumerate(devices_of)}


def test_a_device_that_is_visited_again_has_a_task_for_each_visit() -> None:
    tasks = make_tasks(*chain(["a", "a", "b", "b", "a"]))
    assert text(tasks) == ["a@0 forward: f0 f1", "b@1 forward: f2 f3", "a@2 forward: f4"]
    assert [t.after for t in tasks] == [(), (0,), (1,)]
    assert (stages(tasks), visits(tasks)) == (["a", "b"], {"a": 2, "b": 1})
    assert str(tasks[1]) == "task 1: forward on b at level 1, 2 ops"
    assert [v.name for op in tasks[1].ops for v in op.outputs] == ["f2", "f3"]


def test_what_only_its_own_device_needs_waits_until_it_does() -> None:
    b = Builder()
    x, w = b.input("x", 4), b.parameter("w", 4)
    t = b.op("aten.neg.default", w, name="t")
    y = b.op("aten.relu.default", x, name="y")
    b.returns(b.op("aten.mul.Tensor", y, t, name="z"))
    assign_phases(b.graph)
    assert text(make_tasks(b.graph, {"t": "b", "y": "a", "z": "b"})) == ["a@0 forward: y", "b@1 forward: t z"]


def test_what_the_caller_gives_comes_with_the_first_task_that_takes_it() -> None:
    b = Builder()
    x = b.input("x", 4)
    b.returns(b.op("aten.relu.default", x, name="p"), b.op("aten.neg.default", x, name="q"))
    assign_phases(b.graph)
    tasks = make_tasks(b.graph, {"p": "a", "q": "b"})
    assert [t.after for t in tasks] == [(), (0,)]


def counter() -> tuple[Graph, Value]:
    """A buffer is read on the way to the output, and written."""
    b = Builder()
    x, count = b.input("x", 4), b.buffer("count", 4)
    early = b.op("aten.add.Tensor", x, count, name="early")
    far = b.op("aten.relu.default", early, name="far")
    b.returns(b.op("aten.add.Tensor", far, count, name="late"))
    b.update(count, early, name="write")
    assign_phases(b.graph)
    return b.graph, count


def test_state_is_written_behind_the_last_that_reads_it_and_read_behind_the_micro_batch_before() -> None:
    graph, count = counter()
    assert {n: [op.name for op in ops] for n, ops in state_readers(graph).items()} == {count.name: ["early", "late"]}
    tasks = make_tasks(graph, {"early": "a", "far": "b", "late": "a", "write": "a"})
    assert text(tasks) == ["a@0 forward: early", "b@1 forward: far", "a@2 forward: late write"]
    assert [t.behind for t in tasks] == [(0, 2), (1,), (2,)]


def recomputing() -> Graph:
    """The backward computes `f0` anew, as `r0`."""
    b = Builder()
    x, w = b.input("x", 4), b.parameter("w", 4)
    kept = b.op("aten.mul.Tensor", x, w, name="f0")
    loss = b.op("aten.sum.default", b.op("aten.tanh.default", kept, name="f1"), name="loss")
    b.returns(loss)
    first = b.op("aten.expand.default", b.add("t", "tangent", 4), name="b0", phase="backward")
    anew = b.op("aten.mul.Tensor", x, w, name="r0", phase="backward")
    back = b.op("aten.tanh_backward.default", first, anew, name="b1", phase="backward")
    b.gradient(w, b.op("aten.mul.Tensor", back, x, name="g", phase="weight-grad"))
    b.gradient(x, back)
    return b.graph


def test_what_is_computed_anew_waits_for_the_backward_to_start() -> None:
    graph = recomputing()
    assert {op.name: loss.name for op, loss in after_loss(graph).items()} == {"b0": "loss", "r0": "loss"}
    placement = {"f0": "a", "f1": "b", "loss": "b", "b0": "b", "r0": "a", "b1": "a", "g": "a"}
    assert text(make_tasks(graph, placement)) == [
        "a@0 forward: f0",
        "b@1 forward: f1 loss",
        "b@1 backward: b0",
        "a@2 backward: r0 b1",
        "a@2 weight-grad: g",
    ]


@given(st.data())
def test_any_placement_gives_tasks_that_follow_each_other(data: st.DataObject) -> None:
    graph = data.draw(graphs(max_ops=20))
    assign_phases(graph)
    placement = data.draw(placements(graph, devices(data.draw(st.integers(1, 4)))))
    for op in (op for op in graph.ops if op.mutates):  # state is written where it is read
        for reader in (r for name in op.mutates for r in state_readers(graph)[name]):
            placement[reader.name] = placement[op.name]
    tasks = make_tasks(graph, placement)
    number = {op: t.number for t in tasks for op in t.ops}
    for task in tasks:
        assert all(before < task.number for before in task.after)
        assert task.number in task.behind
        makers = {number[v.producer] for op in task.ops for v in op.inputs if v.producer is not None}
        assert makers - {task.number} <= set(task.after)


@given(st.integers(2, 8), st.integers(0, 99))
def test_a_chain_has_as_many_tasks_as_stretches(length: int, seed: int) -> None:
    where = [random.Random(seed + i).choice("ab") for i in range(length)]
    changes = sum(a != b for a, b in itertools.pairwise(where))
    assert len(make_tasks(*chain(where))) == 1 + changes
