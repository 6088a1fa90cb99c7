"""Graphs of any size, forward or with their backward, made directly: no model is captured for them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torchplace.compiler.capture import Captured
from torchplace.compiler.graph import Graph, Op, Output, Value
from torchplace.compiler.passes.phases import assign_phases
from torchplace.compiler.types import TensorType

ROWS, WIDTH, HIDDEN, HEADS = 2048, 1024, 4096, 8
"""Tokens, and the sizes of a layer: 12.6 million parameters, 25 MB in bfloat16."""

WINDOW = 64
"""A block of the random graph takes values among the last so many blocks'."""

Gradients = list[tuple[Value, Value]]
"""(input of an op, its gradient)."""


class Tape:
    """Writes a graph op by op, and then its backward as autograd would."""

    def __init__(self, name: str) -> None:
        self.graph, self.module = Graph(name), ""

    def enter(self, name: str, kind: Any, *shape: int) -> Value:
        """An input of the graph."""
        path = name if kind == "parameter" else ""
        self.graph.inputs.append(Value(name, TensorType("bfloat16", shape), kind=kind, path=path))
        return self.graph.inputs[-1]

    def weight(self, *shape: int) -> Value:
        """A parameter of the module that is written."""
        return self.enter(f"{self.module}.w{len(self.graph.inputs)}", "parameter", *shape)

    def op(self, target: str, *args: Any, shapes: Sequence[Sequence[int]], flops: int = 0, view: bool = False) -> Op:
        """An op with an output for each shape; a view shares the memory of its first argument."""
        op = Op(f"v{len(self.graph.ops)}", target, args, module=self.module)
        base = args[0].name if view else None
        op.outputs = tuple(
            Value(f"{op.name}_{i}", TensorType("bfloat16", tuple(shape)), op, base=base)
            for i, shape in enumerate(shapes)
        )
        op.flops = flops or (0 if view else max(v.type.numel for v in op.outputs if isinstance(v.type, TensorType)))
        self.graph.ops.append(op)
        return op

    def mm(self, x: Value, weight: Value, shape: Sequence[int] = ()) -> Value:
        """A product; its shape is that of the factors unless it is given (a gradient's factors are transposed)."""
        (rows, inner), (_, columns) = sizes(x), sizes(weight)
        flops = 2 * rows * inner * columns
        return self.op("aten.mm.default", x, weight, shapes=[shape or (rows, columns)], flops=flops).outputs[0]

    def add(self, one: Value, other: Value) -> Value:
        """A sum."""
        return self.op("aten.add.Tensor", one, other, shapes=[sizes(one)]).outputs[0]

    def gelu(self, x: Value) -> Value:
        """A function of each element."""
        return self.op("aten.gelu.default", x, shapes=[sizes(x)]).outputs[0]

    def view(self, x: Value, *shape: int) -> Value:
        """The same memory in another shape."""
        return self.op("aten.view.default", x, list(shape), shapes=[shape], view=True).outputs[0]

    def norm(self, x: Value) -> Value:
        """Normalized rows, with a factor for each column."""
        made = self.op("aten._fused_rms_norm.default", x, [WIDTH], self.weight(WIDTH), 1e-5, shapes=[sizes(x)])
        return made.outputs[0]

    def attention(self, query: Value, key: Value, value: Value) -> Value:
        """Of each head."""
        heads, rows, size = sizes(query)
        target, flops = "aten._scaled_dot_product_flash_attention.default", 4 * heads * rows * rows * size
        return self.op(target, query, key, value, shapes=[sizes(query)], flops=flops).outputs[0]

    def backward(self, output: Value) -> None:
        """Write the backward: every parameter's gradient is returned."""
        gradients = {output.name: self.enter("tangent", "tangent", *sizes(output))}
        for op in reversed(list(self.graph.ops)):
            gradient = gradients.pop(op.outputs[0].name, None)
            if gradient is not None:
                self.module = op.module
                for value, part in RULES[op.target](self, op, gradient):
                    known = gradients.get(value.name)
                    gradients[value.name] = part if known is None else self.add(known, part)
        returned = [v for v in self.graph.inputs if v.kind == "parameter" and v.name in gradients]
        self.graph.outputs += [Output(gradients[v.name], "gradient", v.path) for v in returned]


def sizes(value: Value) -> tuple[int, ...]:
    """Of a tensor."""
    assert isinstance(value.type, TensorType)
    return value.type.sizes


def _of_mm(tape: Tape, op: Op, gradient: Value) -> Gradients:
    x, weight = op.inputs
    return [(weight, tape.mm(x, gradient, sizes(weight))), (x, tape.mm(gradient, weight, sizes(x)))]


def _of_norm(tape: Tape, op: Op, gradient: Value) -> Gradients:
    x, weight = op.inputs
    target, shapes = "aten._fused_rms_norm_backward.default", [sizes(x), sizes(weight)]
    made = tape.op(target, gradient, x, [WIDTH], weight, shapes=shapes)
    return [(x, made.outputs[0]), (weight, made.outputs[1])]


def _of_attention(tape: Tape, op: Op, gradient: Value) -> Gradients:
    target, taken = "aten._scaled_dot_product_flash_attention_backward.default", (*op.inputs, op.outputs[0])
    shapes = [sizes(v) for v in op.inputs]
    made = tape.op(target, gradient, *taken, shapes=shapes, flops=5 * op.flops // 2)
    return list(zip(op.inputs, made.outputs, strict=True))


def _of_gelu(tape: Tape, op: Op, gradient: Value) -> Gradients:
    [x] = op.inputs
    return [(x, tape.op("aten.gelu_backward.default", gradient, x, shapes=[sizes(x)]).outputs[0])]


RULES: dict[str, Callable[[Tape, Op, Value], Gradients]] = {
    "aten.mm.default": _of_mm,
    "aten.add.Tensor": lambda tape, op, gradient: [(v, gradient) for v in op.inputs],
    "aten.gelu.default": _of_gelu,
    "aten.view.default": lambda tape, op, gradient: [(op.inputs[0], tape.view(gradient, *sizes(op.inputs[0])))],
    "aten._fused_rms_norm.default": _of_norm,
    "aten._scaled_dot_product_flash_attention.default": _of_attention,
}
"""Target -> how it is differentiated."""


def layers(count: int, training: bool) -> Captured:
    """A transformer: layers of attention and a perceptron, each added to what came in."""
    tape = Tape("layers")
    x = tape.enter("x", "input", ROWS, WIDTH)
    for i in range(count):
        tape.module = f"layers.{i}"
        inside = tape.norm(x)
        heads = [tape.view(tape.mm(inside, tape.weight(WIDTH, WIDTH)), HEADS, ROWS, WIDTH // HEADS) for _ in range(3)]
        mixed = tape.view(tape.attention(*heads), ROWS, WIDTH)
        x = tape.add(x, tape.mm(mixed, tape.weight(WIDTH, WIDTH)))
        x = tape.add(x, _perceptron(tape, tape.norm(x), HIDDEN))
    return _captured(tape, x, training)


def scattered(count: int, training: bool) -> Captured:
    """A random graph: each block adds up one to three of the last blocks' values, and makes another of them."""
    tape, chance = Tape("random"), random.Random(0)
    made = [tape.enter("x", "input", ROWS, WIDTH)]
    loose: dict[str, Value] = {}
    for i in range(count):
        tape.module = f"blocks.{i}"
        taken = chance.sample(made[-WINDOW:], min(len(made), chance.randint(1, 3)))
        for value in taken:
            loose.pop(value.name, None)
        made.append(_perceptron(tape, _sum(tape, taken), chance.randrange(256, HIDDEN + 1, 128)))
        loose[made[-1].name] = made[-1]
    return _captured(tape, _sum(tape, list(loose.values())), training)


def _perceptron(tape: Tape, x: Value, hidden: int) -> Value:
    inside = tape.gelu(tape.mm(x, tape.weight(WIDTH, hidden)))
    return tape.mm(inside, tape.weight(hidden, WIDTH))


def _sum(tape: Tape, values: Sequence[Value]) -> Value:
    total = values[0]
    for value in values[1:]:
        total = tape.add(total, value)
    return total


GRAPHS: dict[str, Callable[[int, bool], Captured]] = {"layers": layers, "random": scattered}
"""By name: of some layers or blocks, with a backward or without."""


def sized(name: str, ops: int, training: bool) -> Captured:
    """The graph of about so many ops."""
    few, more = (len(GRAPHS[name](n, training).graph.ops) for n in (10, 30))
    return GRAPHS[name](max(1, 10 + round((ops - few) * 20 / (more - few))), training)


def _captured(tape: Tape, output: Value, training: bool) -> Captured:
    tape.graph.outputs.append(Output(output))
    if training:
        tape.backward(output)
    assign_phases(tape.graph)
    return Captured(tape.graph, split(tape.graph) if training else (tape.graph,))


def split(graph: Graph) -> tuple[Graph, Graph]:
    """The forward and the backward part of a joint graph, as AOTAutograd splits it."""
    ahead = [op for op in graph.ops if op.phase == "forward"]
    behind = [op for op in graph.ops if op.phase != "forward"]
    forward, known = _part(graph, ahead, [v for v in graph.inputs if v.kind != "tangent"])
    inside = {v.name for op in ahead for v in op.outputs}
    taken = dict.fromkeys(v for op in behind for v in op.inputs if v.producer is None or v.name in inside)
    backward, late = _part(graph, behind, list(taken))
    saved = [known[v.name] for v in taken if v.name in inside]
    returned = [o for o in graph.outputs if o.kind == "gradient"]
    forward.outputs = [replace(o, value=known[o.value.name]) for o in graph.outputs if o.kind == "output"]
    forward.outputs += [Output(v, "saved") for v in saved]
    backward.outputs = [replace(o, value=late[o.value.name]) for o in returned]
    return forward, backward


def _part(graph: Graph, ops: Sequence[Op], inputs: Sequence[Value]) -> tuple[Graph, dict[str, Value]]:
    """Some ops as a graph of their own, and its values by name."""
    part, known = Graph(graph.name), {}
    for value in inputs:
        known[value.name] = Value(value.name, value.type, kind=value.kind or "saved", path=value.path)
    part.inputs = list(known.values())
    for op in ops:
        args = tuple(known[a.name] if isinstance(a, Value) else a for a in op.args)
        made = replace(op, args=args)
        made.outputs = tuple(Value(v.name, v.type, made, base=v.base if v.base in known else None) for v in op.outputs)
        known.update((v.name, v) for v in made.outputs)
        part.ops.append(made)
    return part, known
