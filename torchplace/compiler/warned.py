"""Warnings of a model are given when it is captured, where Dynamo would break the graph."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from torch._dynamo.exc import unimplemented
from torch._dynamo.variables.misc import IgnoredFunctionVariable

_call = IgnoredFunctionVariable.call_function


def warned_at_capture() -> AbstractContextManager[Any]:
    """Within, Dynamo, which is told to ignore `warnings.warn`, gives the warnings that it comes upon.

    By default, Python gives a warning once for each line. So does a capture.
    """
    return mock.patch.object(IgnoredFunctionVariable, "call_function", _called)


def _called(self: Any, tx: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if self.value is warnings.warn:
        _warn(tx, [*args, *(kwargs[name] for name in ("message", "category") if name in kwargs)])
    return _call(self, tx, [*args], {**kwargs})


def _warn(tx: Any, given: Sequence[Any]) -> None:
    """Give a warning, as far as its text is known; one that is an error breaks the graph, for Python to raise it."""
    message, category = (_constant(given[i]) if i < len(given) else None for i in range(2))
    if not isinstance(message, (str, Warning)):
        return
    kind = category if isinstance(category, type) and issubclass(category, Warning) else UserWarning
    try:
        warnings.warn_explicit(message, kind, tx.f_code.co_filename, tx.lineno or 1)
    except Warning as error:
        unimplemented(
            gb_type="a warning that is an error",
            context=str(error),
            explanation="A filter of `warnings` makes an error of it.",
            hints=[],
        )


def _constant(variable: Any) -> Any:
    """What a variable of Dynamo's stands for, where that is known."""
    return variable.as_python_constant() if variable.is_python_constant() else getattr(variable, "value", None)
