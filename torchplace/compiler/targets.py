"""Names of what ops call, and back: `aten.mm.default` <-> `torch.ops.aten.mm.default`; what is known of each."""

from __future__ import annotations

import builtins
import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch

from torchplace.errors import GraphError

_PLAIN_MODULES = ("operator", "math", "builtins", "torch")
"""Where plain functions in captured graphs come from: arithmetic on symbolic sizes, and torch's own."""


def target_name(target: Any) -> str:
    """The printed name of what a captured node calls.

    Raises:
        GraphError: the target is nothing that could be found again by name.
    """
    if isinstance(target, torch._ops.OpOverload):
        return str(target)
    if isinstance(target, torch._ops.HigherOrderOperator):
        return f"higher_order.{target._name}"
    module = getattr(target, "__module__", None) or ""
    module = "operator" if module == "_operator" else module
    if module.split(".")[0] in _PLAIN_MODULES:
        return f"{module}.{target.__qualname__}"
    raise GraphError(f"cannot name the call target {target!r}; expected an operator of torch.ops")


@functools.cache
def resolve_target(name: str) -> Callable[..., Any]:
    """What a printed name calls.

    Raises:
        GraphError: nothing has this name (a custom operator's library is not imported, perhaps).
    """
    head, *rest = name.split(".")
    try:
        if head in _PLAIN_MODULES:
            return _plain(head, rest)
        target: Any = torch.ops
        for part in (head, *rest):
            target = getattr(target, part)
    except (AttributeError, ImportError) as error:
        raise GraphError(
            f"unknown operator {name!r}; expected one of torch.ops (import the library that defines it)"
        ) from error
    return target  # type: ignore[no-any-return]


def _plain(head: str, rest: list[str]) -> Callable[..., Any]:
    target: Any = builtins if head == "builtins" else importlib.import_module(head)
    for part in rest:
        target = getattr(target, part)
    return target  # type: ignore[no-any-return]


_UNSAFE_VIEWS = frozenset(
    f"aten.{name}"
    for name in (
        "_unsafe_view.default",
        "_reshape_alias.default",
        "unsafe_split.Tensor",
        "unsafe_split_with_sizes.default",
        "unsafe_chunk.default",
    )
)
"""Views, all the same, of whose results the schema says that they are not: autograd is not to track them as such."""


@functools.cache
def aliased_argument(name: str) -> int | None:
    """Index of the argument whose memory an op's results share (it is a view), or None."""
    if name in _UNSAFE_VIEWS:
        return 0
    schema = getattr(resolve_target(name), "_schema", None)
    if schema is None or not any(r.alias_info and not r.alias_info.is_write for r in schema.returns):
        return None
    for i, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and not argument.alias_info.is_write:
            return i
    return None


def called_as(name: str) -> str:
    """The op that is called for one of a graph.

    A graph knows how tensors lie in memory from what torch says of kernels without running them, which is wrong for
    some: the backward of softplus lies as its gradient does. A view of that may need a copy.
    """
    return "aten.reshape.default" if name == "aten.view.default" else name


@functools.cache
def written_arguments(name: str) -> tuple[int, ...]:
    """Indices of the arguments that an op writes in place."""
    schema = getattr(resolve_target(name), "_schema", None)
    arguments = [] if schema is None else schema.arguments
    return tuple(i for i, a in enumerate(arguments) if a.alias_info is not None and a.alias_info.is_write)


@functools.cache
def output_mask(name: str) -> int | None:
    """Index of the argument that says which of an op's results are wanted (the others are None), or None."""
    schema = getattr(resolve_target(name), "_schema", None)
    arguments = [] if schema is None else schema.arguments
    return next((i for i, a in enumerate(arguments) if a.name == "output_mask"), None)


@functools.cache
def is_random(name: str) -> bool:
    """Whether an op draws random numbers."""
    tags = getattr(resolve_target(name), "tags", ())
    return torch.Tag.nondeterministic_seeded in tags
