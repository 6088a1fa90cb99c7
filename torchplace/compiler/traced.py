"""Calls that Dynamo traces in the midst of a trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch._dynamo.variables.base import VariableTracker


def traced_call(tx: Any, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What a function gives that Dynamo traces on variables of its own."""
    return VariableTracker.build(tx, function).call_function(tx, [*args], {**kwargs})
