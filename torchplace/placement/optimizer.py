"""Bytes of state that an optimizer keeps beside each parameter: what its first step makes, on tensors without data."""

from __future__ import annotations

import copy
import difflib
import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import optim
from torch.utils import _pytree as pytree

from torchplace.compiler.capture import Captured
from torchplace.compiler.types import TensorType, torch_dtype
from torchplace.errors import OptionError
from torchplace.placement.memory import parameter_gradients

Make = Callable[[list[torch.nn.Parameter]], optim.Optimizer]
"""Makes an optimizer of parameters: a class, or a `functools.partial` of one."""

KINDS: Mapping[str, Make] = {
    "sgd": optim.SGD,
    "momentum": functools.partial(optim.SGD, momentum=0.9),
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "amsgrad": functools.partial(optim.Adam, amsgrad=True),
    "adamax": optim.Adamax,
    "nadam": optim.NAdam,
    "radam": optim.RAdam,
    "adagrad": optim.Adagrad,
    "adadelta": optim.Adadelta,
    "adafactor": optim.Adafactor,
    "rmsprop": optim.RMSprop,
    "rprop": optim.Rprop,
    "asgd": optim.ASGD,
    "muon": optim.Muon,
}
"""The kinds that have a name, as torch makes them by default."""


def check_optimizer(optimizer: object) -> None:
    """Check what the option `optimizer` was given.

    Raises:
        OptionError: it is no kind, class or instance.
    """
    if optimizer is None or isinstance(optimizer, optim.Optimizer) or (callable(optimizer) and optimizer is not str):
        return
    known = ", ".join(map(repr, KINDS))
    if not isinstance(optimizer, str):
        raise OptionError(f"optimizer is {optimizer!r}; expected one of {known}, a torch.optim class or an instance")
    if optimizer.lower() not in KINDS:
        near = difflib.get_close_matches(optimizer.lower(), KINDS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise OptionError(
            f"optimizer is {optimizer!r}{hint} Expected one of {known}, or in Python a torch.optim class or an instance"
        )


def optimizer_name(optimizer: object) -> str:
    """What a plan calls it: its kind, or its class; "" for none."""
    if optimizer is None or isinstance(optimizer, str):
        return (optimizer or "").lower()
    made = optimizer.func if isinstance(optimizer, functools.partial) else optimizer
    return str(getattr(made, "__name__", type(made).__name__))


def optimizer_bytes(optimizer: object, captured: Captured) -> dict[str, int]:
    """Input name -> bytes of the optimizer's state, for every parameter that a captured graph has a gradient of.

    Of an instance, only its own parameters have state, by the settings of their groups. Tensors of one element, as
    step counters are, count like all others.

    Args:
        optimizer: as the option has it.
        captured: the graph; of a forward-only graph no parameter has state.

    Raises:
        OptionError: the optimizer makes no step without data, and no state before it fails (L-BFGS, sparse Adam).

    Cost: a step without data for each type of parameter.
    """
    if optimizer is None or not captured.training:
        return {}
    trained = {name for names in parameter_gradients(captured.graph).values() for name in names}
    known: dict[tuple[TensorType, int], int] = {}
    found = {}
    for value in captured.graph.inputs:
        group = _group(optimizer, captured.state.get(value.name))
        if value.name not in trained or group is None or not isinstance(value.type, TensorType):
            continue
        key = (value.type, group)
        if key not in known:
            known[key] = _state_bytes(optimizer, value.type, group)
        found[value.name] = known[key]
    return found


def _group(optimizer: object, parameter: torch.Tensor | None) -> int | None:
    """Index of an instance's group that has a parameter; 0 for what is no instance; None where it is in none."""
    if not isinstance(optimizer, optim.Optimizer):
        return 0
    groups = enumerate(optimizer.param_groups)
    return next((i for i, group in groups if any(p is parameter for p in group["params"])), None)


def _state_bytes(optimizer: object, kind: TensorType, group: int) -> int:
    """Bytes of state for a parameter of a type."""
    data = torch.empty(kind.sizes, dtype=torch_dtype(kind.dtype), device="meta")
    parameter = torch.nn.Parameter(data)
    parameter.grad = torch.empty_like(data)
    made = _optimizer_of(optimizer, parameter, group)
    try:
        made.step()
    except (RuntimeError, NotImplementedError, TypeError) as error:  # it looks at a value; state is made before that
        if not made.state.get(parameter):
            raise OptionError(
                f"optimizer {optimizer_name(optimizer)!r}: its state is not known without running it: {error}"
            ) from error
    tensors = [t for t in pytree.tree_leaves(made.state[parameter]) if isinstance(t, torch.Tensor)]
    return sum({id(t.untyped_storage()): t.untyped_storage().nbytes() for t in tensors}.values())


def _optimizer_of(optimizer: object, parameter: torch.nn.Parameter, group: int) -> optim.Optimizer:
    """An optimizer of one parameter, without state."""
    if isinstance(optimizer, optim.Optimizer):
        settings: Mapping[str, Any] = optimizer.param_groups[group]
        made = copy.copy(optimizer)
        made.state = defaultdict(dict)
        made.param_groups = [{**settings, "params": [parameter]}]
        return made
    make: Any = KINDS[optimizer.lower()] if isinstance(optimizer, str) else optimizer
    try:
        result = make([parameter])
    except Exception as error:
        raise OptionError(
            f"optimizer {optimizer_name(optimizer)!r} cannot be made of a parameter of shape "
            f"{_shape(parameter.shape)}: {error}; pass an instance, or a functools.partial with its settings"
        ) from error
    if not isinstance(result, optim.Optimizer):
        raise OptionError(f"optimizer {optimizer!r} gave {type(result).__name__}; expected a torch.optim.Optimizer")
    return result


def _shape(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes)) or "no dims"
