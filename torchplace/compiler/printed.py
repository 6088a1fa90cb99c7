"""`print` as an op of the graph, where Dynamo would break it: it prints where the values are, whenever they are."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, fx
from torch._dynamo.exc import unimplemented
from torch._dynamo.variables.lists import BaseListVariable, SizeVariable
from torch._dynamo.variables.misc import DebuggingVariable, StringFormatVariable
from torch._dynamo.variables.tensor import SymNodeVariable, TensorVariable

from torchplace.compiler.acts import acting
from torchplace.compiler.traced import traced_call
from torchplace.compiler.truths import as_tensor

_call = DebuggingVariable.call_function


def prints_in_graphs() -> AbstractContextManager[Any]:
    """Within, Dynamo, which is told that it may put off `print`, makes an op of it."""
    return mock.patch.object(DebuggingVariable, "call_function", _called)


def _called(self: Any, tx: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if self.value is not print:
        return _call(self, tx, [*args], {**kwargs})
    line = _Line()
    if not line.says(args, kwargs):
        unimplemented(
            gb_type="print of what a graph has not",
            context=f"print({', '.join(map(repr, args))})",
            explanation="Tensors, numbers, texts, and lists of these can be printed from a graph.",
            hints=[],
        )
    return traced_call(tx, _say, [line.text, *line.values], {})


def _say(text: str, *values: Any) -> None:
    """What is traced for a `print`: tensors are passed on without what they would have to hand to a backward."""
    printed_line(text, [value.detach() if isinstance(value, Tensor) else as_tensor(value) for value in values])


class _Line:
    """A line as it will be printed: a text with fields, and what comes into them."""

    def __init__(self) -> None:
        self.text, self.values = "", list[Any]()

    def says(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Read the arguments of a `print`; returns whether all of them are understood."""
        options = {name: value.as_python_constant() for name, value in kwargs.items() if value.is_python_constant()}
        if len(options) < len(kwargs) or options.get("file") is not None:
            return False
        between, end = options.get("sep"), options.get("end")
        for i, arg in enumerate(args):
            self._literally((" " if between is None else between) if i else "")
            if not self._add(arg, conversion="s"):
                return False
        self._literally("\n" if end is None else end)
        return True

    def _literally(self, text: object) -> None:
        self.text += str(text).replace("{", "{{").replace("}", "}}")

    def _add(self, value: Any, spec: str = "", conversion: str | None = None) -> bool:
        shown = (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
        if value.is_python_constant():
            self._literally(f"{{0{shown}}}".format(value.as_python_constant()))
        elif isinstance(value, StringFormatVariable) and not spec and conversion != "r":
            return self._format(value)
        elif isinstance(value, BaseListVariable) and not spec:
            return self._list(value)
        elif isinstance(value, SymNodeVariable) or type(value) is TensorVariable:
            kind = "number" if isinstance(value, SymNodeVariable) else "tensor"
            self.text += f"{{{kind}{len(self.values)}{shown}}}"
            self.values.append(value)
        else:
            return False
        return True

    def _format(self, given: Any) -> bool:
        """What `str.format` would have made: an f-string, too."""
        numbered = iter(given.sym_args)
        for literal, name, spec, conversion in string.Formatter().parse(given.format_string):
            self._literally(literal)
            if name is None:
                continue
            found = next(numbered, None) if not name else given.sym_kwargs.get(name)
            if found is None and name.isdigit() and int(name) < len(given.sym_args):
                found = given.sym_args[int(name)]
            if found is None or not self._add(found, spec or "", conversion):
                return False
        return True

    def _list(self, given: Any) -> bool:
        """A list, a tuple or sizes, of what is understood."""
        if type(given) is SizeVariable:
            begin, end = "torch.Size([", "])"
        elif given.python_type() in (list, tuple):
            begin, end = ("[", "]") if given.python_type() is list else ("(", ",)" if len(given.items) == 1 else ")")
        else:
            return False
        self._literally(begin)
        for i, item in enumerate(given.items):
            self._literally(", " if i else "")
            if not self._add(item, conversion="r"):
                return False
        self._literally(end)
        return True


@torch.library.custom_op("torchplace::printed_line", mutates_args=())
def printed_line(text: str, tensors: Sequence[Tensor]) -> None:
    """Print a text.

    Args:
        text: of `str.format`; a field is called `tensor`, or `number` for what is a number of Python's, and its place.
        tensors: that come into the fields.
    """
    if acting():
        print(text.format(**dict(_fields(tensors))), end="")


def _fields(tensors: Sequence[Tensor]) -> Any:
    for i, tensor in enumerate(tensors):
        yield f"tensor{i}", tensor
        if not tensor.dim():
            yield f"number{i}", tensor.item()


@printed_line.register_fake
def _(_text: str, _tensors: Sequence[Tensor]) -> None:
    return None


_PRINT = torch.ops.torchplace.printed_line.default
fx.node.has_side_effect(_PRINT)

_CHECK = torch.ops.aten._assert_async.msg
"""What may be in a joint graph with checkpoints, though it has effects."""
_PRINTS = "torchplace_prints"
"""Where such a node says in its `meta` that it is a print."""


def split_with_prints(joint: fx.GraphModule, split: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
    """Split a joint graph into forward and backward; what has effects would be in both, and prints in one alone.

    Args:
        joint: the graph.
        split: splits it; is shown checks in place of prints.
    """
    for node in joint.graph.find_nodes(op="call_function", target=_PRINT):
        node.target, node.meta[_PRINTS] = _CHECK, True
    parts = split()
    printed: set[str] = set()
    for part in parts:
        found = [node for node in part.graph.nodes if node.meta.get(_PRINTS)]
        for node in found:
            node.target = _PRINT
            if node.name in printed:
                part.graph.erase_node(node)
        printed.update(node.name for node in found)
        if found:
            part.graph.eliminate_dead_code()
            part.recompile()
    return parts
