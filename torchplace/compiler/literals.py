"""Arguments of ops as text: literals, values (`%name`) and nests of them, printed and parsed back.

What is printed is an expression of Python but for the `%`; reading it evaluates nothing.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Mapping
from typing import Any

import torch

from torchplace.compiler.graph import HERE, Callee, Here, Subgraph, Value
from torchplace.errors import GraphError

STRING = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
"""Pattern of a quoted string."""

_VALUE_OR_STRING = re.compile(STRING + r"|%([^\s,()\[\]{}:]+)")
_STRING_OR_BRACKET = re.compile(STRING + r"|[(\[{<]|[)\]}>]|,")
_TORCH_ENUMS = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}
_MAKERS: dict[str, Any] = {
    "device": torch.device,
    "subgraph": Subgraph,
    "callee": Callee,
    "slice": slice,
    "complex": complex,
}


def quote(text: str) -> str:
    """A string between double quotes, on one line."""
    # With a double quote in it, `repr` takes single quotes, so only the double ones are left to escape.
    return '"' + repr('"' + text)[2:-1].replace('"', '\\"') + '"'


def unquote(text: str) -> str:
    """The string that `quote` printed.

    Raises:
        ValueError: the text is no quoted string.
    """
    try:
        return str(ast.literal_eval(text))
    except SyntaxError as error:
        raise ValueError(f"cannot read the string {text}: {error}") from error


def print_call(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The arguments of a call, in brackets."""
    named = (_print_keyword(k, v) for k, v in kwargs.items())
    return f"({', '.join([*map(print_argument, args), *named])})"


def _print_keyword(name: str, argument: object) -> str:
    if name.isidentifier() and not keyword.iskeyword(name):
        return f"{name}={print_argument(argument)}"
    return "**" + print_argument({name: argument})  # `from`, which random ops of torch have


def print_argument(argument: object) -> str:
    """One argument of an op: a literal, a value, or a nest of them.

    Raises:
        GraphError: it holds something that is neither.
    """
    if isinstance(argument, (list, tuple)):
        return _print_sequence(argument)
    if isinstance(argument, Mapping):
        return "{" + ", ".join(f"{k!r}: {print_argument(v)}" for k, v in argument.items()) + "}"
    if isinstance(argument, slice):
        return "slice" + print_call((argument.start, argument.stop, argument.step), {})
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
    if isinstance(leaf, complex):
        return f"complex({leaf.real!r}, {leaf.imag!r})"
    for name, kind in _TORCH_ENUMS.items():
        if isinstance(leaf, kind):
            return f"{name}.{str(leaf).removeprefix('torch.')}"
    if leaf is None or isinstance(leaf, (Value, Here, bool, int, float, str, type(...))):
        return "..." if leaf is ... else repr(leaf)
    raise GraphError(f"cannot print the argument {leaf!r} (type={type(leaf).__name__}); expected a literal or a value")


def parse_call(text: str, known: Mapping[str, Value]) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
    """Read `(arguments)` or `(arguments) | {notes}`: positional and keyword arguments, and the notes.

    Raises:
        GraphError: the text is no such thing.
    """
    tree, notes = _expression("f" + text), {}
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.BitOr) and isinstance(tree.right, ast.Dict):
        notes = _literal(tree.right, known)
        tree = tree.left
    if not isinstance(tree, ast.Call):
        raise GraphError("expected 'target(arguments)' or 'target(arguments) | {notes}'")
    kwargs: dict[str, Any] = {}
    for named in tree.keywords:
        value = _literal(named.value, known)
        if named.arg is None and not isinstance(value, dict):
            raise GraphError(f"cannot read the keyword arguments **{ast.unparse(named.value)}; expected a dict")
        kwargs.update(value if named.arg is None else {named.arg: value})
    return tuple(_literal(a, known) for a in tree.args), kwargs, notes


def parse_argument(text: str, known: Mapping[str, Value]) -> Any:
    """Read one argument as `print_argument` prints it; `known` are the values by name.

    Raises:
        GraphError: the text is no argument.
    """
    return _literal(_expression(text), known)


def split(text: str) -> list[str]:
    """Split at the commas that stand in no bracket and in no string."""
    parts, depth, start = [], 0, 0
    for match in _STRING_OR_BRACKET.finditer(text):
        depth += (match[0] in "([{<") - (match[0] in ")]}>")
        if match[0] == "," and depth == 0:
            parts.append(text[start : match.start()].strip())
            start = match.end()
    return [*parts, text[start:].strip()] if text else []


def _expression(text: str) -> ast.expr:
    quoted = _VALUE_OR_STRING.sub(lambda m: f"value({m[1]!r})" if m[1] else m[0], text)
    try:
        return ast.parse(quoted, mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise GraphError(f"cannot read {text!r}: {error}") from error


def _literal(node: ast.expr, known: Mapping[str, Value]) -> Any:
    """The argument that a syntax tree spells; nothing is evaluated."""
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_literal(item, known) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Dict):
        keys = [_constant(k) for k in node.keys if k is not None]
        return dict(zip(keys, (_literal(v, known) for v in node.values), strict=True))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call(node.func.id, [_literal(a, known) for a in node.args], known)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return _named(node.value.id, node.attr)
    return _constant(node)


def _constant(node: ast.expr) -> Any:
    text = ast.unparse(node)
    if text in ("inf", "-inf", "nan"):
        return float(text)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError) as error:
        raise GraphError(f"cannot read the literal {text!r}") from error


def _call(function: str, arguments: list[Any], known: Mapping[str, Value]) -> Any:
    if function == "value":
        if arguments[0] not in known:
            raise GraphError(f"%{arguments[0]} is used before it is made")
        return known[arguments[0]]
    if function not in _MAKERS:
        raise GraphError(f"unknown literal {function}(...); expected one of {list(_MAKERS)}")
    try:
        return _MAKERS[function](*arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise GraphError(f"cannot read the literal {function}{tuple(arguments)!r}: {error}") from error


def _named(family: str, name: str) -> Any:
    if (family, name) == ("device", "here"):
        return HERE
    kind = _TORCH_ENUMS.get(family)
    value = getattr(torch, name, None)
    if kind is None or not isinstance(value, kind):
        raise GraphError(f"unknown literal {family}.{name}; expected a dtype, layout or memory_format of torch")
    return value
