"""Sizes that a model gives as tensors of one number, where torch takes numbers: taken out of them as numbers first.

By itself, Dynamo tries the op with tensors, and what torch makes of them within is lost to the graph.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch._dynamo.variables import ConstantVariable
from torch._dynamo.variables.lists import BaseListVariable, ListVariable
from torch._dynamo.variables.tensor import SymNodeVariable
from torch._dynamo.variables.torch import TorchInGraphFunctionVariable

from torchplace.compiler.foreseen import number_in
from torchplace.compiler.foresight import nothing_expected
from torchplace.compiler.traced import traced_call

_TAKES_SIZES: Sequence[Callable[..., Any]] = (torch._C._nn.pad, F.interpolate)
"""Dynamo follows `F.pad` up to the former."""


def rules() -> Mapping[Callable[..., Any], Callable[..., Any]]:
    """Function -> the rule by which Dynamo traces it; the rule gives None where it has nothing to do."""
    return {function: functools.partial(_sized, function) for function in _TAKES_SIZES}


def _sized(function: Callable[..., Any], _: Any, tx: Any, *args: Any, **kwargs: Any) -> Any:
    given = [_with_numbers(tx, one) for one in args]
    named = {name: _with_numbers(tx, one) for name, one in kwargs.items()}
    if all(new is one for new, one in zip([*given, *named.values()], [*args, *kwargs.values()], strict=True)):
        return None
    return TorchInGraphFunctionVariable(function).call_function(tx, given, named)


def _with_numbers(tx: Any, value: Any) -> Any:
    """A list of Dynamo's with numbers in place of tensors; anything else as it is."""
    value = value.realize()
    if not isinstance(value, BaseListVariable) or not any(item.is_tensor() for item in value.items):
        return value
    return ListVariable([_number(tx, item) if item.is_tensor() else item for item in value.items])


def _number(tx: Any, tensor: Any) -> Any:
    """The number in a tensor: itself, where it can be foreseen, for sizes that are symbols make for slow captures."""
    number = traced_call(tx, int, [tensor], {})
    with nothing_expected():
        known = number_in(number, int) if isinstance(number, SymNodeVariable) else None
    return number if known is None else ConstantVariable.create(known)
