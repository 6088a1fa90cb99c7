"""Graphs as text: printed for people, and parsed back to the same graph.

A line is an input, an op or the return:

    parameter %w: float32[100, 64] = "wte.weight"
    %embedding: float32[2, 16, 64] = aten.embedding.default(%w, %ids) | {'module': 'wte'}
    return output %embedding, gradient "wte.weight" %embedding_dense_backward
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any, cast, get_args

import torch

from torchplace.compiler.graph import (
    HERE,
    Callee,
    Graph,
    Here,
    InputKind,
    Op,
    Output,
    OutputKind,
    Subgraph,
    Value,
)
from torchplace.compiler.types import parse_type
from torchplace.errors import GraphError

_HEADER = re.compile(r"graph (\".*\") on (\S+) \{\Z")
_INPUT = re.compile(rf"({'|'.join(get_args(InputKind))}) %(\S+): (.+?)(?: = (\".*\"))?\Z")
_RESULT = re.compile(r"%(\S+): (.+?)(?: view of %(\S+))?\Z")
_OP = re.compile(r"(.+?) = ([\w.]+)(\(.*)\Z")
_VALUE_OR_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|%([^\s,()\[\]{}:]+)")
_TORCH_ENUMS = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}


def print_graph(graph: Graph) -> str:
    """The text of a graph."""
    lines = [f'graph "{graph.name}" on {graph.home} {{']
    lines += [f"  {_print_input(value)}" for value in graph.inputs]
    lines += [f"  {print_op(op)}" for op in graph.ops]
    lines.append(f"  return {', '.join(map(_print_output, graph.outputs))}".rstrip())
    return "\n".join([*lines, "}"])


def print_op(op: Op) -> str:
    """One op on one line."""
    results = ", ".join(_print_result(v) for v in op.outputs) or op.name
    arguments = [print_argument(a) for a in op.args]
    arguments += [f"{k}={print_argument(v)}" for k, v in op.kwargs.items()]
    notes = {k: getattr(op, k) for k in _NOTES if getattr(op, k) != _NOTES[k]}
    tail = f" | {notes!r}" if notes else ""
    return f"{results} = {op.target}({', '.join(arguments)}){tail}"


_NOTES: dict[str, Any] = {
    "phase": "forward",
    "module": "",
    "source": "",
    "flops": 0,
    "mutates": (),
    "random": False,
}


def print_argument(argument: object) -> str:
    """One argument of an op: a literal, a value, or a nest of them."""
    if isinstance(argument, (list, tuple)):
        return _print_sequence(argument)
    if isinstance(argument, Mapping):
        return "{" + ", ".join(f"{k!r}: {print_argument(v)}" for k, v in argument.items()) + "}"
    if isinstance(argument, slice):
        return f"slice({', '.join(map(print_argument, (argument.start, argument.stop, argument.step)))})"
    if isinstance(argument, Subgraph):
        return f"subgraph({argument.name!r})"
    if isinstance(argument, Callee):
        return f"callee({argument.target!r})"
    return _print_leaf(argument)


def _print_sequence(items: list[Any] | tuple[Any, ...]) -> str:
    inner = ", ".join(map(print_argument, items))
    if isinstance(items, list):
        return f"[{inner}]"
    return f"({inner},)" if len(items) == 1 else f"({inner})"


def _print_leaf(leaf: object) -> str:
    if isinstance(leaf, torch.device):
        return f"device({str(leaf)!r})"
    for name, kind in _TORCH_ENUMS.items():
        if isinstance(leaf, kind):
            return f"{name}.{str(leaf).removeprefix('torch.')}"
    if leaf is None or isinstance(leaf, (Value, Here, bool, int, float, complex, str, type(...))):
        return "..." if leaf is ... else repr(leaf)
    raise GraphError(f"cannot print the argument {leaf!r} (type={type(leaf).__name__}); expected a literal or a value")


def _print_input(value: Value) -> str:
    path = f' = "{value.path}"' if value.path else ""
    return f"{value.kind} {value!r}: {value.type}{path}"


def _print_result(value: Value) -> str:
    view = f" view of %{value.base}" if value.base is not None else ""
    return f"{value!r}: {value.type}{view}"


def _print_output(output: Output) -> str:
    path = f' "{output.path}"' if output.path else ""
    return f"{output.kind}{path} {print_argument(output.value)}"


def parse_graph(text: str) -> Graph:
    """Read a graph back.

    Raises:
        GraphError: says which line, and what was expected.
    """
    lines = [line.strip() for line in text.strip().splitlines()]
    header = _HEADER.match(lines[0]) if lines else None
    if header is None or lines[-1] != "}":
        raise GraphError("cannot read the graph; expected 'graph \"name\" on device {' ... '}'")
    graph = Graph(ast.literal_eval(header[1]), home=header[2])
    known: dict[str, Value] = {}
    for number, line in enumerate(lines[1:-1], start=2):
        try:
            _parse_line(line, graph, known)
        except (GraphError, ValueError, SyntaxError, KeyError) as error:
            raise GraphError(f"line {number} of the graph, {line!r}: {error}") from error
    return graph


def _parse_line(line: str, graph: Graph, known: dict[str, Value]) -> None:
    if line == "return" or line.startswith("return "):
        graph.outputs = [_parse_output(part, known) for part in _split(line.removeprefix("return").strip())]
    elif match := _INPUT.match(line):
        kind, name, type_text, path = match.groups()
        value = Value(name, parse_type(type_text), kind=cast(InputKind, kind), path=ast.literal_eval(path or '""'))
        graph.inputs.append(value)
        known[name] = value
    else:
        graph.ops.append(_parse_op(line, known))


def _parse_op(line: str, known: dict[str, Value]) -> Op:
    if not (match := _OP.match(line)):
        raise GraphError("expected an input, '%name: type = target(arguments)' or 'return ...'")
    results, target, call = match.groups()
    tree = _expression("f" + call)
    notes: dict[str, Any] = {}
    if isinstance(tree, ast.BinOp):
        notes = _literal(tree.right, known)
        tree = tree.left
    if not isinstance(tree, ast.Call) or not set(notes) <= set(_NOTES):
        raise GraphError(f"expected 'target(arguments) | notes' with notes among {list(_NOTES)}")
    outputs = [_parse_result(part) for part in _split(results)] if results.startswith("%") else []
    op = Op(outputs[0].name.split("#")[0] if outputs else results, target, outputs=tuple(outputs), **notes)
    op.args = tuple(_literal(a, known) for a in tree.args)
    op.kwargs = {str(k.arg): _literal(k.value, known) for k in tree.keywords}
    for value in outputs:
        value.producer = op
        known[value.name] = value
    return op


def _parse_result(text: str) -> Value:
    if not (match := _RESULT.match(text)):
        raise GraphError(f"cannot read the result {text!r}; expected '%name: type'")
    name, type_text, base = match.groups()
    return Value(name, parse_type(type_text), base=base)


def _parse_output(text: str, known: Mapping[str, Value]) -> Output:
    kind, _, rest = text.partition(" ")
    if kind not in get_args(OutputKind):
        raise GraphError(f"unknown kind of output {kind!r}; expected one of {get_args(OutputKind)}")
    path = ""
    if named := re.match(r'"([^"]*)" ', rest):
        path, rest = named[1], rest[named.end() :]
    return Output(_literal(_expression(rest), known), cast(OutputKind, kind), path)


def _split(text: str) -> list[str]:
    """Split at the commas that stand in no bracket."""
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character in "([{<") - (character in ")]}>")
        if character == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()] if text else []


def _expression(text: str) -> ast.expr:
    quoted = _VALUE_OR_STRING.sub(lambda m: f"value({m[1]!r})" if m[1] else m[0], text)
    return ast.parse(quoted, mode="eval").body


def _literal(node: ast.expr, known: Mapping[str, Value]) -> Any:
    """The argument that a syntax tree spells; nothing is evaluated."""
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_literal(item, known) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(k) for k in node.keys if k is not None]
        return dict(zip(keys, (_literal(v, known) for v in node.values), strict=True))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call(node.func.id, [_literal(a, known) for a in node.args], known)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return _named(node.value.id, node.attr)
    text = ast.unparse(node)
    return float(text) if text in ("inf", "-inf", "nan") else ast.literal_eval(node)


def _call(function: str, arguments: list[Any], known: Mapping[str, Value]) -> Any:
    if function == "value":
        if arguments[0] not in known:
            raise GraphError(f"%{arguments[0]} is used before it is made")
        return known[arguments[0]]
    makers: dict[str, Any] = {"device": torch.device, "subgraph": Subgraph, "callee": Callee, "slice": slice}
    if function not in makers:
        raise GraphError(f"unknown literal {function}(...); expected one of {list(makers)}")
    return makers[function](*arguments)


def _named(family: str, name: str) -> Any:
    if (family, name) == ("device", "here"):
        return HERE
    kind = _TORCH_ENUMS.get(family)
    value = getattr(torch, name, None)
    if kind is None or not isinstance(value, kind):
        raise GraphError(f"unknown literal {family}.{name}; expected a dtype, layout or memory_format of torch")
    return value
