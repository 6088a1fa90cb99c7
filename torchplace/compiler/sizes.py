"""What sizes a graph with symbolic shapes is for: read off its `ShapeEnv`, which only this file asks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import fx

_FEW = 4
"""How many conditions on sizes are told, of those that are no ranges: a reshape makes a dozen that say the same."""


def size_conditions(module: fx.GraphModule, names: Sequence[str]) -> tuple[str, ...]:
    """What sizes of its inputs Dynamo's graph holds for, where they may change: `x[0] from 2 to 64`, `y[0] = x[0]`.

    Where there is more to it than ranges, the shortest conditions are told, as torch writes them.

    Args:
        module: Dynamo's graph.
        names: of its inputs, in order.
    """
    first: dict[Any, str] = {}  # symbol -> the dim that it is the size of
    said, environment = [], None
    for name, placeholder in zip(names, module.graph.find_nodes(op="placeholder"), strict=True):
        for where, size in _sizes(name, placeholder.meta.get("example_value")):
            expression = size.node.expr
            environment = size.node.shape_env
            if expression in first:
                said.append(f"{where} = {first[expression]}")
            elif expression.is_Symbol:
                first[expression] = where
    if environment is None:
        return ()
    ranges = [f"{where} {_range_text(environment.bound_sympy(symbol))}" for symbol, where in first.items()]
    more = [guard.expr for guard in environment.guards if not _is_in_range(guard.expr)]
    known = [e for e in dict.fromkeys(more) if e.free_symbols and e.free_symbols <= first.keys()]
    spelled = {str(symbol): where for symbol, where in first.items()}
    others = sorted((re.sub(r"\w+", lambda m: spelled.get(m[0], m[0]), str(e)) for e in known), key=len)
    rest = [f"{len(others) - _FEW} more conditions"] if len(others) > _FEW else []
    return (*ranges, *dict.fromkeys(said), *others[:_FEW], *rest)


def _sizes(name: str, example: Any) -> Iterator[tuple[str, torch.SymInt]]:
    """Name and symbolic size of each dim of an input that has one."""
    if isinstance(example, torch.Tensor):
        shape: Sequence[Any] = example.shape
        yield from ((f"{name}[{i}]", size) for i, size in enumerate(shape) if isinstance(size, torch.SymInt))


def _range_text(bounds: Any) -> str:
    least, most = bounds.lower, bounds.upper
    return f"of {least} or more" if not most.is_finite or most >= 2**31 else f"from {least} to {most}"


def _is_in_range(condition: Any) -> bool:
    """Whether a condition only compares a size with a number: the range of the size says it."""
    return (
        len(condition.args) == 2
        and any(a.is_Symbol for a in condition.args)
        and any(a.is_number for a in condition.args)
    )
