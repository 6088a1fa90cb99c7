"""Numbers in texts: `str(n)`, `experts[f"expert_{i}"]`, of what hangs on values or sizes, such as the expert to call.

Dynamo has symbols and tensors for such numbers. It breaks the graph where one is to be a text, and takes a text with a
tensor in it for a key that no dictionary has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch._dynamo.exc import unimplemented
from torch._dynamo.symbolic_convert import tls
from torch._dynamo.variables import ConstantVariable
from torch._dynamo.variables.builtin import BuiltinVariable
from torch._dynamo.variables.hashable import HashableTracker
from torch._dynamo.variables.misc import StringFormatVariable
from torch._dynamo.variables.tensor import SymNodeVariable

from torchplace.compiler.foreseen import number_in
from torchplace.compiler.traced import traced_call

_str, _begin = BuiltinVariable.call_str, HashableTracker.__init__


@contextmanager
def numbers_spelled() -> Iterator[None]:
    """Within, a number is spelled that can be known, and the graph is for that number."""
    with (
        mock.patch.object(BuiltinVariable, "call_str", _spelled),
        mock.patch.object(HashableTracker, "__init__", _hashable),
    ):
        yield


def _spelled(self: Any, tx: Any, arg: Any) -> Any:
    is_integer = isinstance(arg, SymNodeVariable) and isinstance(arg.sym_num, torch.SymInt)
    number = number_in(arg, int) if is_integer else None
    return _str(self, tx, arg) if number is None else ConstantVariable.create(str(number))


def _hashable(self: Any, key: Any) -> None:
    _begin(self, ConstantVariable.create(_text(tls.current_tx, key)) if isinstance(key, StringFormatVariable) else key)


def _text(tx: Any, value: Any) -> str:
    """A text that Dynamo would put together later."""
    given = [_known(tx, one) for one in value.sym_args]
    named = {name: _known(tx, one) for name, one in value.sym_kwargs.items()}
    return str(value.format_string.format(*given, **named))


def _known(tx: Any, value: Any) -> Any:
    """What stands in a text; of a tensor of one integer, that, as in eager."""
    if value.is_python_constant():
        return value.as_python_constant()
    if isinstance(value, StringFormatVariable):
        return _text(tx, value)
    if value.is_tensor() and not value.size and value.dtype in _INTEGERS:
        value = traced_call(tx, int, [value], {})
    known = number_in(value, int) if isinstance(value, SymNodeVariable) else None
    if known is None:
        unimplemented(
            gb_type="text of a value as a key",
            context=str(value),
            explanation="What a text says of values has to be known where it is a key.",
            hints=[],
        )
    return known


_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
