"""Graphs made by hand and by chance, for the tests of whatever reads graphs: no model is captured for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from torchplace.compiler.graph import Graph, InputKind, Op, Output, Value
from torchplace.compiler.passes.phases import assign_phases
from torchplace.compiler.types import TensorType

DEVICES = ("gpu:0", "gpu:1", "gpu:2", "gpu:3")


def tensor(*shape: int, dtype: str = "float32") -> TensorType:
    return TensorType(dtype, shape)


@dataclass
class Builder:
    """Adds inputs, ops and outputs to a graph one by one; names that are not given are `v0`, `v1`, ..."""

    graph: Graph = field(default_factory=lambda: Graph("toy"))

    def add(self, name: str, kind: InputKind, *shape: int) -> Value:
        path = name if kind in ("parameter", "buffer", "constant") else ""
        self.graph.inputs.append(Value(name, tensor(*shape), kind=kind, path=path))
        return self.graph.inputs[-1]

    def input(self, name: str, *shape: int) -> Value:
        return self.add(name, "input", *shape)

    def parameter(self, name: str, *shape: int) -> Value:
        return self.add(name, "parameter", *shape)

    def buffer(self, name: str, *shape: int) -> Value:
        return self.add(name, "buffer", *shape)

    def many(self, target: str, *args: Any, shapes: Sequence[tuple[int, ...]], name: str = "", **notes: Any) -> Op:
        """An op with as many outputs as shapes, `name#0`, `name#1`...; with none, it makes nothing."""
        op = Op(name or f"v{len(self.graph.ops)}", target, args, **notes)
        op.outputs = tuple(Value(f"{op.name}#{i}", tensor(*s), op) for i, s in enumerate(shapes))
        self.graph.ops.append(op)
        return op

    def op(
        self,
        target: str,
        *args: Any,
        shape: tuple[int, ...] = (4,),
        name: str = "",
        base: Value | None = None,
        **notes: Any,
    ) -> Value:
        """An op with one output, which is a view of `base` if one is given."""
        op = self.many(target, *args, shapes=[shape], name=name, **notes)
        made = op.outputs[0]
        made.name, made.base = op.name, None if base is None else base.name
        return made

    def add_op(self, *args: Value, shape: tuple[int, ...] = (4,), name: str = "", **notes: Any) -> Value:
        return self.op("aten.add.Tensor", *args, shape=shape, name=name, **notes)

    def view(self, value: Value, name: str = "") -> Value:
        assert isinstance(value.type, TensorType)
        return self.op("aten.view.default", value, [-1], shape=value.type.sizes, name=name, base=value)

    def update(self, state: Value, value: Value, name: str = "") -> Op:
        """Write a value into a buffer, as AOTAutograd writes it down: at the end, nobody takes what it returns."""
        return self.many("aten.copy_.default", state, value, shapes=[], name=name, mutates=(state.name,))

    def returns(self, *values: Value) -> Graph:
        self.graph.outputs += [Output(v) for v in values]
        return self.graph

    def gradient(self, parameter: Value, value: Value) -> Graph:
        self.graph.outputs.append(Output(value, "gradient", parameter.path))
        return self.graph


def chain(length: int = 4) -> Graph:
    """x -> v0 -> v1 -> ... -> output, each with a parameter of its own."""
    b = Builder()
    last = b.input("x", 4)
    for i in range(length):
        last = b.add_op(last, b.parameter(f"w{i}", 4))
    return b.returns(last)


@st.composite
def graphs(draw: st.DrawFn, max_ops: int = 14) -> Graph:
    """Graphs of joins, branches, views (of views), ops with two results or none used, and updates of buffers."""
    b = Builder()
    values = [b.input("x", 4), b.parameter("w", 8)]
    values += [b.parameter("v", 2)] if draw(st.booleans()) else []
    buffers = [b.buffer(f"b{i}", i + 1) for i in range(draw(st.integers(0, 2)))]
    values += buffers
    for _ in range(draw(st.integers(0, max_ops))):
        values += _some_op(draw, b, values)
    made = [v for op in b.graph.ops for v in op.outputs]
    for buffer in buffers if made else ():
        if draw(st.booleans()):
            b.update(buffer, draw(st.sampled_from(made)), name=f"copy_{buffer.name}")
    b.returns(*draw(st.lists(st.sampled_from(values), max_size=3)))
    if made and draw(st.booleans()):
        b.gradient(values[1], draw(st.sampled_from(made)))
    return b.graph


def _some_op(draw: st.DrawFn, b: Builder, values: list[Value]) -> Sequence[Value]:
    kind = draw(st.sampled_from(["plain", "plain", "plain", "view", "two", "fresh"]))
    size = draw(st.integers(1, 64))
    if kind == "view":
        return [b.view(draw(st.sampled_from(values)))]
    if kind == "fresh":
        return [b.op("aten.full.default", [size], 1.0, shape=(size,))]
    taken = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    if kind == "two":
        return b.many("aten.split.Tensor", *taken, 2, shapes=[(size,), (size + 1,)]).outputs
    return [b.op("aten.cat.default", taken, shape=(size,), flops=size)]


def devices(count: int) -> tuple[str, ...]:
    return DEVICES[:count]


@st.composite
def placements(draw: st.DrawFn, graph: Graph, names: Sequence[str]) -> dict[str, str]:
    """Every op anywhere."""
    where = draw(st.lists(st.sampled_from(names), min_size=len(graph.ops), max_size=len(graph.ops)))
    return {op.name: device for op, device in zip(graph.ops, where, strict=True)}


@st.composite
def placed(draw: st.DrawFn) -> tuple[Graph, tuple[str, ...], dict[str, str], dict[str, str]]:
    """A graph, 1 to 4 devices, a device for each op, and owners of some of the inputs."""
    graph = draw(graphs())
    names = devices(draw(st.integers(1, 4)))
    placement = draw(placements(graph, names))
    owned = draw(st.lists(st.sampled_from(graph.inputs), unique_by=lambda v: v.name))
    return graph, names, placement, {v.name: draw(st.sampled_from(names)) for v in owned}


def pipeline(stages: int) -> tuple[Graph, dict[str, str]]:
    """Stages of a pipeline: x -> forward ops -> backward ops with a weight gradient each, one of each on every device."""
    b, placement = Builder(), {}
    last = b.input("x", 4)
    weights = [b.parameter(f"w{i}", 4) for i in range(stages)]
    for i, weight in enumerate(weights):
        last = b.op("aten.mul.Tensor", last, weight, name=f"f{i}")
        placement[f"f{i}"] = f"gpu:{i}"
    b.returns(last)
    gradient = b.add("t", "tangent", 4)
    for i in reversed(range(stages)):
        wanted = b.op("aten.mul.Tensor", gradient, gradient, name=f"w_{i}")
        gradient = b.op("aten.mul.Tensor", gradient, weights[i], name=f"b{i}")
        b.gradient(weights[i], wanted)
        placement.update({f"w_{i}": f"gpu:{i}", f"b{i}": f"gpu:{i}"})
    b.gradient(b.graph.inputs[0], gradient)
    assign_phases(b.graph)
    return b.graph, placement
