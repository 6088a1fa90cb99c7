"""State that is written in the forward pass and read in the backward: the backward reads a copy of what it was."""

from __future__ import annotations

from torchplace.compiler.graph import Graph, Op, Value

_UNREAD = {"aten.native_batch_norm_backward.default": (3, 4, 7)}
"""Ops that do not look at running statistics in training: places of those two, and of the flag that says so."""


def snapshot_state(graph: Graph) -> None:
    """Let backward ops not depend on state that a later micro-batch has written by then, in place.

    A forward op makes a copy for them. Batch norm's backward does not look at the running statistics that it is
    handed in training, and is not handed them. Cost: linear in the edges.
    """
    written = {name for op in graph.ops for name in op.mutates}
    root = graph.storage() if written else {}
    late = [op for op in graph.ops if op.phase != "forward" and any(root.get(v.name) in written for v in op.inputs)]
    for op in late:
        _without_statistics(op)
    for value in {v.name: v for op in late for v in op.inputs if root[v.name] in written}.values():
        if value.producer is None or value.producer.phase == "forward":
            _copy_for(graph, value, [op for op in late if value in op.inputs])


def _without_statistics(op: Op) -> None:
    if op.target not in _UNREAD:
        return
    mean, var, training = _UNREAD[op.target]
    if len(op.args) > training and op.args[training] is True:
        op.rewire(tuple(None if i in (mean, var) else a for i, a in enumerate(op.args)))


def _copy_for(graph: Graph, value: Value, users: list[Op]) -> None:
    """Make a copy of a value as soon as it is there, and hand it to some ops."""
    taken = {op.name for op in graph.ops} | graph.values.keys()
    name = f"{value.name}.before"
    while name in taken:
        name += "_"
    copy = Op(name, "aten.clone.default", (value,), phase="forward")
    copy.outputs = (Value(name, value.type, copy),)
    graph.ops.insert(0 if value.producer is None else graph.ops.index(value.producer) + 1, copy)
    for op in users:
        op.replace_inputs({value: copy.outputs[0]})
