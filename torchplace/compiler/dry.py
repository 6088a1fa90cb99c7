"""Dry capture: a call is captured without running it, on a model that is here or only on the meta device."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from torchplace.compiler import dynamo
from torchplace.compiler.capture import Captured, Capturer
from torchplace.compiler.compiled import compile_function
from torchplace.compiler.dispatched import hooks_aside
from torchplace.compiler.homes import home_of, meta_counts_as, set_home
from torchplace.errors import CaptureError, TorchplaceError


def capture_dry(
    target: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    training: bool,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    model: Callable[..., Any] | None = None,
) -> list[Captured]:
    """Capture a call as if it were made, and run nothing: all tensors of it stand on the meta device meanwhile.

    Args:
        target: a module or a function of tensors.
        args: positional arguments.
        kwargs: keyword arguments.
        training: capture the backward too.
        fullgraph: a graph break is an error.
        dynamic: dynamic shapes, as `torch.compile` takes it.
        model: whose parameters the target uses, where that is a function of `args` and `kwargs` around a module.

    Returns:
        The graphs, in the order in which the call reaches them.

    Raises:
        CaptureError: the call cannot be captured, or (after a graph break) depends on values, which a dry
            capture does not have.
    """
    found: list[Captured] = []
    stands: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # id of a tensor on the meta device -> it, the real one

    def keep(captured: Captured) -> Sequence[dynamo.Runner]:
        known = {n: stands.get(id(t), (t, t))[1] for n, t in captured.examples.items()}
        captured.examples = {n: t for n, t in known.items() if not _is_meta(t)}
        captured.state = {n: known.get(n, t) for n, t in captured.state.items()}
        found.append(captured)
        return [_never_run] * len(captured.parts)

    model = target if model is None else model
    require_sizes(model)
    home = _home(model, args, kwargs)
    name = dynamo.name_of(model)
    with (
        hooks_aside(model),
        meta_counts_as(home),
        _on_meta(model, stands) as names,
        torch.set_grad_enabled(training),
    ):
        capturer = Capturer(keep, name, lambda: names, True, dynamo.argument_names(model))
        compiled = compile_function(_plain_call(target), capturer, foreseen=False, fullgraph=fullgraph, dynamic=dynamic)
        to_meta = functools.partial(_to_meta, stands=stands)
        meta_args, meta_kwargs = pytree.tree_map_only(torch.Tensor, to_meta, (tuple(args), dict(kwargs)))
        _call(compiled, meta_args, meta_kwargs, name, found)
    if not found:
        raise CaptureError(f"capturing {name!r} found no op on tensors: nothing to place")
    return found


def require_sizes(model: object) -> None:
    """Check that all parameters and buffers of a module have sizes.

    Raises:
        CaptureError: a lazy layer waits for its first call.
    """
    if not isinstance(model, nn.Module):
        return
    waiting = [name for name, t in (*model.named_parameters(), *model.named_buffers()) if is_lazy(t)]
    if waiting:
        others = f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
        raise CaptureError(
            f"cannot capture {type(model).__name__!r}: {waiting[0]}{others} of its lazy layers have no sizes yet; "
            "call the model once, under torch.no_grad(), as optimizers need it, too"
        )


def _plain_call(target: Callable[..., Any]) -> Callable[..., Any]:
    """What Dynamo compiles when the target is called: a module's own call, whether it is compiled or not."""
    return dynamo.call_of(target) if isinstance(target, nn.Module) else target


def _call(compiled: Callable[..., Any], args: Any, kwargs: Any, name: str, found: Sequence[Captured]) -> None:
    try:
        compiled(*args, **kwargs)
    except TorchplaceError:
        raise
    except Exception as error:
        after = f" after {len(found)} graph(s)" if found else ""
        raise CaptureError(
            f"cannot capture {name!r} without running it{after}: {type(error).__name__}: {error}; "
            "compile it with tp.compile and call it, then read tp.plans(model)"
        ) from error


def _never_run(args: list[Any]) -> Sequence[Any]:
    raise CaptureError("a dry capture runs nothing")


def _home(target: object, args: object, kwargs: object) -> torch.device:
    """Where eager would run the call: the first accelerator that something real is on; else the CPU."""
    tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    if isinstance(target, nn.Module):
        tensors = [*target.parameters(), *target.buffers(), *tensors]
    homes = [home_of(t) for t in tensors if t.device.type != "meta"]
    return next((d for d in homes if d.type != "cpu"), torch.device("cpu"))


def _is_meta(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == "meta"


def _to_meta(tensor: torch.Tensor, stands: dict[int, tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """A tensor of the same type that takes no memory, noted in `stands`; a parameter becomes a parameter."""
    if tensor.device.type == "meta":
        return tensor
    with torch.no_grad():
        there = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")
        there = nn.Parameter(there, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else there
    dynamo.keep_marks(tensor, there)
    set_home(there.requires_grad_(tensor.requires_grad), home_of(tensor))
    stands[id(there)] = there, tensor
    return there


@contextmanager
def _on_meta(target: object, stands: dict[int, tuple[torch.Tensor, torch.Tensor]]) -> Iterator[dict[int, str]]:
    """Within, a module's parameters and buffers stand on the meta device; gives their names by id."""
    if not isinstance(target, nn.Module):
        yield {}
        return
    stood: list[tuple[dict[str, Any], str, Any]] = []
    copies: dict[int, torch.Tensor] = {}  # tied ones stay tied
    try:
        for module in target.modules():
            tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
            for held in tables:
                for name, tensor in list(held.items()):
                    if tensor is not None:
                        stood.append((held, name, tensor))
                        held[name] = copies.setdefault(id(tensor), _to_meta(tensor, stands))
        named = (target.named_buffers(), target.named_parameters())
        yield {id(t): name for pairs in named for name, t in pairs}
    finally:
        for held, name, tensor in stood:
            held[name] = tensor
