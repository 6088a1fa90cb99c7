"""FX graphs of ATen ops -> the IR. The one place that knows how AOTAutograd writes things down."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx

from torchplace.compiler import dynamo
from torchplace.compiler.flops import count_flops
from torchplace.compiler.graph import HERE, Callee, Graph, InputKind, Op, Output, Subgraph, Value
from torchplace.compiler.place import marked_device, marks_within
from torchplace.compiler.targets import aliased_argument, is_random, output_mask, target_name, written_arguments
from torchplace.compiler.types import ScalarType, Symbol, TensorType, Type, contiguous_strides
from torchplace.errors import CaptureError, GraphError

_OURS = str(Path(__file__).parents[1])
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_ATTENTION_DROPOUT = {"aten._scaled_dot_product_flash_attention_for_cpu.default": 3}
"""Attention ops are marked as random, but draw only with dropout: index of that argument."""


@dataclass(frozen=True, slots=True)
class InputName:
    """How an input of the captured graph is called in the IR."""

    name: str
    kind: InputKind
    path: str = ""


class FxReader:
    """Turns one FX graph into a `Graph`; ops keep the FX names, so parts of a joint graph share them."""

    def __init__(self, module: fx.GraphModule, name: str, home: torch.device, around: str = "") -> None:
        """Read `module`, calling the result `name`.

        `home` is where eager would run it; `around` the device of a `place` block that all of it is in.
        """
        self.module, self.around = module, around
        self.graph = Graph(name, home=str(home))
        self.home = home
        self.values: dict[fx.Node, Any] = {}

    def read(self, inputs: Sequence[InputName]) -> Graph:
        """Convert node by node; `inputs` name the placeholders, in order. Cost: linear."""
        names = iter(inputs)
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, next(names))
            elif node.op == "get_attr":
                self._attribute(node)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                results = node.args[0] if isinstance(node.args[0], (tuple, list)) else (node.args[0],)
                self.graph.outputs = [Output(self._argument(a), device=self._elsewhere(a)) for a in results]
        return self.graph

    def _placeholder(self, node: fx.Node, name: InputName) -> None:
        value = Value(name.name, type_of(node.meta.get("val")), kind=name.kind, path=name.path)
        self.graph.inputs.append(value)
        self.values[node] = value

    def _attribute(self, node: fx.Node) -> None:
        held = operator.attrgetter(str(node.target))(self.module)
        if isinstance(held, torch.Tensor):
            value = Value(node.name, type_of(held), kind="constant", path=str(node.target))
            self.graph.inputs.append(value)
            self.graph.constants[value.name] = held
            self.values[node] = value
        else:
            self.graph.subgraphs[str(node.target)] = held
            self.values[node] = Subgraph(str(node.target))

    def _call(self, node: fx.Node) -> None:
        if node.target is operator.getitem and (taken := self._element(*node.args)) is not None:
            self.values[node] = taken
            return
        op = Op(node.name, target_name(node.target))
        op.args = tuple(self._argument(a) for a in node.args)
        op.kwargs = {k: self._argument(v) for k, v in node.kwargs.items()}
        op.random = _draws(op, node)
        op.mutates = tuple(v.name for v in map(op.args.__getitem__, _written(op)) if isinstance(v, Value))
        op.module, op.source = module_path(node), source_line(node)
        op.hint = self._hint(op, node)
        op.flops = _flops(node)
        self._results(op, node)
        self.graph.ops.append(op)

    def _hint(self, op: Op, node: fx.Node) -> str:
        """The device of the innermost `place` block; AOTAutograd's writes of state, at the end, are in none.

        Raises:
            CaptureError: an op that takes graphs of its own (a branch, a loop) has blocks for several devices in them.
        """
        within = (self.graph.subgraphs[a.name] for a in op.args if isinstance(a, Subgraph))
        marks = {marked_device(node), *(m for graph in within for m in marks_within(graph))} - {""}
        if len(marks) > 1:
            raise CaptureError(
                f"op {op.name!r} ({op.source}) runs on one device, and has tp.place blocks for {sorted(marks)} in its "
                "graphs; keep one of them, or put the others outside of it"
            )
        return next(iter(marks), "" if op.mutates and not node.users else self.around)

    def _element(self, source: Any, index: Any) -> Value | None:
        """One result of an op that makes several."""
        results = self.values[source]
        return results[index] if isinstance(results, tuple) else None

    def _results(self, op: Op, node: fx.Node) -> None:
        made = node.meta.get("val")
        index = aliased_argument(op.target)
        base = _base(op, index)
        if isinstance(made, (tuple, list)):
            types = [
                type_of(m) if w else ScalarType("object") for m, w in zip(made, _wanted(op, len(made)), strict=True)
            ]
            op.outputs = tuple(Value(f"{op.name}#{i}", t, op, base=base) for i, t in enumerate(types))
            self.values[node] = op.outputs
        elif op.mutates and not node.users:
            self.values[node] = None
        else:
            op.outputs = (Value(op.name, type_of(made), op, base=base),)
            self.values[node] = op.outputs[0]

    def _elsewhere(self, result: Any) -> str:
        """Where eager has something that the graph returns, if not at home."""
        made = result.meta.get("val") if isinstance(result, fx.Node) else None
        return str(made.device) if isinstance(made, torch.Tensor) and made.device != self.home else ""

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return self.values[argument]
        if isinstance(argument, (tuple, list)):
            items = [self._argument(a) for a in argument]
            return items if isinstance(argument, list) else tuple(items)
        if isinstance(argument, dict):
            return {k: self._argument(v) for k, v in argument.items()}
        if isinstance(argument, slice):
            return slice(*map(self._argument, (argument.start, argument.stop, argument.step)))
        if isinstance(argument, torch.device) and argument.type == self.home.type:
            return HERE
        if isinstance(argument, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            return _constant(argument)
        return Callee(target_name(argument)) if isinstance(argument, torch._ops.OpOverload) else argument


def _constant(number: Any) -> Any:
    """A symbolic number that stands in an op's arguments: AOTAutograd leaves only constant ones there.

    Raises:
        GraphError: it varies from call to call; taking its hint would freeze it.
    """
    if not number.node.expr.is_number:
        raise GraphError(f"an op takes the symbolic size {number} as a literal; expected a value of the graph")
    return number.node.hint


def type_of(value: Any) -> Type:
    """The type of a (fake) value that a node makes."""
    if isinstance(value, torch.Tensor):
        return _tensor_type(value)
    if isinstance(value, (bool, torch.SymBool)):
        return ScalarType("bool")
    if isinstance(value, torch.SymInt):
        return ScalarType("int", _symbol(value))
    if isinstance(value, int):
        return ScalarType("int")
    return ScalarType("float" if isinstance(value, (float, torch.SymFloat)) else "object")


def _tensor_type(tensor: torch.Tensor) -> TensorType:
    shape = tuple(_dim(d) for d in tensor.shape)
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout is not torch.strided:
        return TensorType(dtype, shape)
    typed = TensorType(dtype, shape)
    strides = tuple(int(size_hint(s)) for s in tensor.stride())
    return typed if strides == contiguous_strides(typed.sizes) else TensorType(dtype, shape, strides)


def _dim(size: int | torch.SymInt) -> int | Symbol:
    return _symbol(size) if isinstance(size, torch.SymInt) else int(size)


def _symbol(size: torch.SymInt) -> Symbol:
    return Symbol(str(size.node.expr), int(size_hint(size)))


def size_hint(size: int | torch.SymInt) -> int:
    """The value at capture; sizes that depend on data have none and count as one."""
    if not isinstance(size, torch.SymInt):
        return size
    return int(size.node.hint) if size.node.has_hint() else 1


def _flops(node: fx.Node) -> int:
    def fake(argument: Any) -> Any:
        return fx.map_arg(argument, lambda n: n.meta.get("val"))

    try:
        return count_flops(node.target, fake(node.args), dict(fake(node.kwargs)), node.meta.get("val"))
    except (TypeError, AttributeError, ValueError):  # a size that depends on data has no hint
        return 0


def _draws(op: Op, node: fx.Node) -> bool:
    if op.target.startswith("higher_order.run_"):  # of torch's partitioner: keeps the state of a recomputed draw
        return True
    if not is_random(op.target):
        return False
    if (index := _ATTENTION_DROPOUT.get(op.target)) is not None:
        return len(node.args) > index and bool(node.args[index] != 0.0)
    return True


def _written(op: Op) -> tuple[int, ...]:
    return tuple(i for i in written_arguments(op.target) if i < len(op.args))


def _wanted(op: Op, count: int) -> list[bool]:
    """Which of an op's results are tensors in any case: traced, those that nobody wants are so at times."""
    index = output_mask(op.target)
    mask = op.args[index] if index is not None and index < len(op.args) else None
    return [bool(w) for w in mask] if isinstance(mask, (list, tuple)) and len(mask) == count else [True] * count


def _base(op: Op, index: int | None) -> str | None:
    if index is None or index >= len(op.args) or not isinstance(op.args[index], Value):
        return None
    return str(op.args[index].name)


def module_path(node: fx.Node) -> str:
    """Path of the module that a node came from; backward nodes name the forward module."""
    stack = node.meta.get("nn_module_stack") or node.meta.get("fwd_nn_module_stack") or {}
    path = dynamo.plain_source(next((str(entry[0]) for entry in reversed(list(stack.values()))), ""))
    return re.sub(r"^L\['\w+'\]\.?|^L__self___?|^self\.?", "", path)


def source_line(node: fx.Node) -> str:
    """`file.py:line` of the code that a node came from, innermost frame."""
    frames = [f for f in _FRAME.findall(node.meta.get("stack_trace") or "") if not f[0].startswith(_OURS)]
    return f"{'/'.join(frames[-1][0].split('/')[-2:])}:{frames[-1][1]}" if frames else ""
