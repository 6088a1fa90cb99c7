"""Strays: parameters that a plan has moved, as code sees them that Dynamo has left to Python: where eager had them.

What cannot be captured runs where its inputs are, and takes parameters by attributes of modules (`self.weight`). There
they come as copies on their home device, with gradients that flow back to where they are. What is written into a copy
is written back at the end of the call.

A parameter that has been taken in a call, and then is moved by a plan that is made in its midst, would get its gradient
where it was: such a call begins anew (`Restart`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from torchplace.compiler.homes import home_of
from torchplace.errors import TorchplaceError

_plain = nn.Module.__getattr__


class Restart(TorchplaceError):  # noqa: N818  # no fault
    """A call has to begin anew."""


class Strays:
    """The copies of one call.

    Attributes:
        taken: ids of the parameters that were taken where they were, for gradients.
    """

    def __init__(self) -> None:
        """None yet."""
        self.taken: set[int] = set()
        self._copies: dict[int, _Copy] = {}

    def at_home(self, tensor: torch.Tensor) -> torch.Tensor:
        """A parameter or buffer where eager had it; itself, if it is there."""
        home = home_of(tensor)
        if home == tensor.device or tensor.device.type == "meta":
            if tensor.requires_grad and torch.is_grad_enabled():
                self.taken.add(id(tensor))
            return tensor
        known = self._copies.get(id(tensor))
        if known is None or not known.serves():
            self._write_back(known)
            known = self._copies[id(tensor)] = _Copy(tensor, tensor.to(home), tensor._version)
        return known.copy

    def end(self) -> None:
        """Write back what has been written into copies."""
        for known in self._copies.values():
            self._write_back(known)

    @staticmethod
    def _write_back(known: _Copy | None) -> None:
        if known is not None and known.copy._version != known.begun:
            with torch.no_grad():
                known.tensor.copy_(known.copy)


@dataclass
class _Copy:
    """Of a parameter or buffer.

    Attributes:
        tensor: where it is.
        copy: of it, at home.
        version: of the tensor, when it was copied.
        begun: of the copy, then.
    """

    tensor: torch.Tensor
    copy: torch.Tensor
    version: int

    def __post_init__(self) -> None:
        self.begun = self.copy._version

    def serves(self) -> bool:
        """Whether it is what another copy would be now."""
        recorded = self.tensor.requires_grad and torch.is_grad_enabled()
        return self.version == self.tensor._version and self.copy.requires_grad == recorded


class _Local(threading.local):
    strays: Strays | None = None


_local = _Local()
_lock = threading.Lock()
_threads = 0


@torch._dynamo.disable  # type: ignore[untyped-decorator]
def _get(module: nn.Module, name: str) -> Any:
    value = _plain(module, name)
    return value if _local.strays is None or not isinstance(value, torch.Tensor) else _local.strays.at_home(value)


def _hook(change: int) -> None:
    """Let modules give their attributes by `_get` as long as a thread wants it: by itself, that is slower."""
    global _threads
    with _lock:
        _threads += change
        _give_by(_get if _threads else _plain)


def _give_by(get: Any) -> None:
    nn.Module.__getattr__ = get  # type: ignore[method-assign]


def begin() -> None:
    """From now on, this thread sees strays at home; without an accelerator there are none."""
    if _local.strays is None and torch.accelerator.is_available():
        _local.strays = Strays()
        _hook(1)


def end() -> None:
    """From now on, it sees them where they are."""
    strays, _local.strays = _local.strays, None
    if strays is not None:
        _hook(-1)
        strays.end()


def moved(tensors: Iterable[torch.Tensor]) -> None:
    """Tell that some parameters have moved.

    Raises:
        Restart: this call has taken one of them, in eager, where it was.
    """
    strays = _local.strays
    if strays is not None and any(id(t) in strays.taken for t in tensors):
        raise Restart("parameters were taken where they were before a graph that has moved them was placed")


@contextmanager
def unseen() -> Iterator[None]:
    """Within, they are seen where they are: Dynamo captures that, and compares the methods of modules with its own."""
    hooked = _threads > 0
    if hooked:
        _give_by(_plain)
    try:
        yield
    finally:
        if hooked:
            _give_by(_get)
