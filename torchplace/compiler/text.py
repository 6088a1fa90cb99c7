"""Graphs as text: printed for people, and parsed back to the same graph.

A line is an input, an op or the return:

    parameter %w: float32[100, 64] = "wte.weight"
    %embedding: float32[2, 16, 64] = aten.embedding.default(%w, %ids) | {'module': 'wte'}
    return output %embedding, gradient "wte.weight" %embedding_dense_backward
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast, get_args

from torchplace.compiler.graph import Graph, InputKind, Op, Output, OutputKind, Value
from torchplace.compiler.literals import (
    STRING,
    parse_argument,
    parse_call,
    print_argument,
    print_call,
    quote,
    split,
    unquote,
)
from torchplace.compiler.types import parse_type
from torchplace.errors import GraphError

_HEADER = re.compile(rf"graph ({STRING}) on (\S+) \{{")
_INPUT = re.compile(rf"({'|'.join(get_args(InputKind))}) %(\S+): (.+?)(?: = ({STRING}))?")
_RESULT = re.compile(r"%(\S+): (.+?)(?: view of %(\S+))?")
_OUTPUT = re.compile(rf"([^\s@]+)(?:@(\S+))? (?:({STRING}) (?=\S))?(.+)")
_OP = re.compile(r"(.+?) = ([\w.]+)(\(.*)")

_NOTES: dict[str, Any] = {
    "phase": "forward",
    "module": "",
    "source": "",
    "hint": "",
    "flops": 0,
    "mutates": (),
    "random": False,
}
"""What is noted behind an op's call where it differs from this."""


def print_graph(graph: Graph) -> str:
    """The text of a graph.

    Raises:
        GraphError: an argument of an op is nothing that could be read back.
    """
    lines = [f"graph {quote(graph.name)} on {graph.home} {{"]
    lines += [f"  {_print_input(value)}" for value in graph.inputs]
    lines += [f"  {print_op(op)}" for op in graph.ops]
    lines.append(f"  return {', '.join(map(_print_output, graph.outputs))}".rstrip())
    return "\n".join([*lines, "}"])


def print_op(op: Op) -> str:
    """One op on one line."""
    results = ", ".join(_print_result(v) for v in op.outputs) or op.name
    notes = {k: getattr(op, k) for k in _NOTES if getattr(op, k) != _NOTES[k]}
    tail = f" | {notes!r}" if notes else ""
    return f"{results} = {op.target}{print_call(op.args, op.kwargs)}{tail}"


def _print_input(value: Value) -> str:
    path = f" = {quote(value.path)}" if value.path else ""
    return f"{value.kind} {value!r}: {value.type}{path}"


def _print_result(value: Value) -> str:
    view = f" view of %{value.base}" if value.base is not None else ""
    return f"{value!r}: {value.type}{view}"


def _print_output(output: Output) -> str:
    # A string that is returned must not look like a path.
    path = f" {quote(output.path)}" if output.path or isinstance(output.value, str) else ""
    where = f"@{output.device}" if output.device else ""
    return f"{output.kind}{where}{path} {print_argument(output.value)}"


def parse_graph(text: str) -> Graph:
    """Read a graph back.

    Raises:
        GraphError: says which line, and what was expected.
    """
    lines = [line.strip() for line in text.strip().splitlines()]
    header = _HEADER.fullmatch(lines[0]) if lines else None
    if header is None or lines[-1] != "}":
        raise GraphError("cannot read the graph; expected 'graph \"name\" on device {' ... '}'")
    graph = Graph(unquote(header[1]), home=header[2])
    known: dict[str, Value] = {}
    for number, line in enumerate(lines[1:-1], start=2):
        try:
            _parse_line(line, graph, known)
        except (GraphError, ValueError) as error:
            raise GraphError(f"line {number} of the graph, {line!r}: {error}") from error
    return graph


def _parse_line(line: str, graph: Graph, known: dict[str, Value]) -> None:
    if line == "return" or line.startswith("return "):
        graph.outputs = [_parse_output(part, known) for part in split(line.removeprefix("return").strip())]
    elif match := _INPUT.fullmatch(line):
        kind, name, type_text, path = match.groups()
        value = Value(name, parse_type(type_text), kind=cast(InputKind, kind), path=unquote(path or '""'))
        graph.inputs.append(value)
        known[name] = value
    else:
        graph.ops.append(_parse_op(line, known))


def _parse_op(line: str, known: dict[str, Value]) -> Op:
    if not (match := _OP.fullmatch(line)):
        raise GraphError("expected an input, '%name: type = target(arguments)' or 'return ...'")
    results, target, call = match.groups()
    args, kwargs, notes = parse_call(call, known)
    if any(type(note) is not type(_NOTES.get(k)) for k, note in notes.items()):
        raise GraphError(f"expected notes like {_NOTES!r}")
    outputs = [_parse_result(part) for part in split(results)] if results.startswith("%") else []
    op = Op(outputs[0].name.split("#")[0] if outputs else results, target, args, kwargs, tuple(outputs), **notes)
    for value in outputs:
        value.producer = op
        known[value.name] = value
    return op


def _parse_result(text: str) -> Value:
    if not (match := _RESULT.fullmatch(text)):
        raise GraphError(f"cannot read the result {text!r}; expected '%name: type'")
    name, type_text, base = match.groups()
    return Value(name, parse_type(type_text), base=base)


def _parse_output(text: str, known: Mapping[str, Value]) -> Output:
    match = _OUTPUT.fullmatch(text)
    if match is None or match[1] not in get_args(OutputKind):
        kind = text.partition(" ")[0]
        raise GraphError(f"unknown kind of output {kind!r}; expected one of {get_args(OutputKind)} and what it is")
    kind, device, path, value = match.groups()
    return Output(parse_argument(value, known), cast(OutputKind, kind), unquote(path or '""'), device or "")
