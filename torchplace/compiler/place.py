"""`place`: says in the code, or of a module, which device ops are to be on; the marks that a capture finds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from typing import Any, TypeVar, overload

import torch
from torch import fx, nn
from torch.fx.traceback import annotate

from torchplace.compiler import dynamo
from torchplace.errors import ExecutionError, OptionError

Module = TypeVar("Module", bound=nn.Module)

_KEY = "torchplace.device"
_around: ContextVar[str] = ContextVar("torchplace.device", default="")


@overload
def place(what: str) -> AbstractContextManager[None]: ...


@overload
def place(what: Module, device: str) -> Module: ...


@dynamo.only_inlined
def place(what: str | nn.Module, device: str | None = None) -> Any:
    """Have ops on a device: those of a block of code, or of a module.

    `with tp.place("gpu:1"):` means all ops that the block makes, in the functions and modules that it calls too, and
    their part of the backward pass. `place(module, "gpu:1")` means all that the module's `forward` does, wherever it
    is called, and so the parameters that are used there first. Blocks and modules may be nested: the inner one
    counts. Both are hints: constraints of the plan, as the option `pins` is. Code that is not compiled ignores them.

    Args:
        what: the device of a block; or a module, which is changed in place: a `forward` of its own stands before that
            of its class. Its class, `state_dict`, pickling and deep copies stay as they are.
        device: the module's device.

    Returns:
        A context manager; or the module.

    Raises:
        OptionError: it is called otherwise. That a topology has no such device is found when a plan is made.

    Limits: the context manager is to be made in the `with` statement itself. Where a block or module holds a graph
    break, its own code is run as Python code, as after any graph break, and the device is that of the graphs found in
    what it calls. Sums of gradients that arrive from several uses of a value belong to none of them.

    Example:
        >>> layer = place(nn.Linear(4, 4), "cpu:1")
        >>> with place("cpu:0"):
        ...     y = layer(torch.ones(4))
    """
    if isinstance(what, nn.Module):
        _require_device(device)
        return _place_module(what, str(device))
    if device is not None:
        raise OptionError(
            f"tp.place({what!r}, {device!r}): expected tp.place(module, device), or with tp.place(device)"
        )
    _require_device(what)
    return annotate({_KEY: what}) if torch.compiler.is_dynamo_compiling() else Around(what)


def _require_device(device: object) -> None:
    if not isinstance(device, str) or not device:
        raise OptionError(f"tp.place: the device is {device!r}; expected the name of one, such as 'gpu:1'")


def _place_module(module: Module, device: str) -> Module:
    own = module.__dict__.get("forward")
    inner = own.inner if isinstance(own, PlacedForward) else own
    module.forward = PlacedForward(module, device, inner)
    return module


class Around:
    """A block of code that Python runs, not Dynamo: what is captured in it takes its device (`device_around`)."""

    @dynamo.only_inlined
    def __init__(self, device: str) -> None:
        self.device = device
        self._before: list[Token[str]] = []

    @dynamo.only_inlined
    def __enter__(self) -> None:
        self._before.append(_around.set(self.device))

    @dynamo.only_inlined
    def __exit__(self, *_: object) -> None:
        _around.reset(self._before.pop())


class PlacedForward:
    """Stands for the `forward` of one module, and calls it in a block of `place`.

    Attributes:
        torchplace_module: the module; the name is one that no model has, for it shows in Dynamo's sources.
        device: where its ops are to be.
        inner: what stood for `forward` before; None for that of the class.
    """

    def __init__(self, module: nn.Module, device: str, inner: Callable[..., Any] | None) -> None:
        self.torchplace_module, self.device, self.inner = module, device, inner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module."""
        with place(self.device):
            if self.inner is not None:
                return self.inner(*args, **kwargs)
            return type(self.torchplace_module).forward(self.torchplace_module, *args, **kwargs)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """What `inspect.signature` looks at."""
        return self.inner or type(self.torchplace_module).forward.__get__(self.torchplace_module)


def device_around() -> str:
    """The device of the innermost block around code that Python runs now; "" where there is none."""
    return _around.get()


def marked_device(node: fx.Node) -> str:
    """The device that an FX node is marked with; "" where there is none."""
    return str((node.meta.get("custom") or {}).get(_KEY, ""))


def marks_within(held: object) -> set[str]:
    """The devices that nodes of a graph are marked with, and of graphs that it holds itself."""
    graphs = held.modules() if isinstance(held, nn.Module) else ()
    return {marked_device(node) for g in graphs if isinstance(g, fx.GraphModule) for node in g.graph.nodes} - {""}


def unless_elsewhere(run: Callable[..., Any]) -> Callable[..., Any]:
    """What runs a graph that is captured now; refuses to where a `place` block is around it that it knows nothing of.

    Raises:
        ExecutionError: when it is called in a block for another device than the one that it was captured in.
    """
    captured = device_around()

    @functools.wraps(run)
    def checked(*args: Any) -> Any:
        now = device_around()
        if now and now != captured:
            where = f"within tp.place({captured!r})" if captured else "outside of any tp.place"
            raise ExecutionError(
                f"tp.place({now!r}) is around code that was captured {where}, and stays as it was planned then; put "
                "the block into the code that is compiled, keep graph breaks out of what is placed, or compile it anew"
            )
        return run(*args)

    return checked
