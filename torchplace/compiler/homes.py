"""Where a tensor counts as living while it is captured, whatever device it is on.

Capture sees a model as eager would run it, all on one device, its home. Yet parameters of a placed model stand on
many devices, and those of a model on the meta device on none. Both are described to the fake tensors that
TorchDynamo and AOTAutograd trace with as if they were at home: so one capture path serves all, and no device
mismatch can arise in it. Guards still see the real tensor. The only user of `MetaTensorDescriber`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, MutableMapping
from typing import Any

import torch
from torch._subclasses.meta_utils import MetaTensorDescriber
from torch.utils.weak import WeakTensorKeyDictionary

_homes: MutableMapping[torch.Tensor, tuple[torch.device, torch.device]] = WeakTensorKeyDictionary()
"""Tensor -> its home, and where it stood when that was said."""
_local = threading.local()
_describe = MetaTensorDescriber.describe_tensor


def set_home(tensor: torch.Tensor, device: torch.device) -> None:
    """Capture `tensor` as if it were on `device`, from now on until somebody moves it."""
    _homes[tensor] = device, tensor.device


def home_of(tensor: torch.Tensor) -> torch.device:
    """The device that `tensor` counts as being on."""
    home, stood = _homes.get(tensor, (tensor.device, tensor.device))
    if stood == tensor.device != home:
        return home
    return getattr(_local, "meta", tensor.device) if tensor.device.type == "meta" else tensor.device


@contextlib.contextmanager
def meta_counts_as(device: torch.device) -> Iterator[None]:
    """Within, tensors on the meta device are captured as if they were on `device` (in this thread)."""
    before = getattr(_local, "meta", None)
    _local.meta = device
    try:
        yield
    finally:
        if before is None:
            del _local.meta
        else:
            _local.meta = before


def _describe_at_home(self: MetaTensorDescriber, t: torch.Tensor, **kwargs: Any) -> Any:
    if t.device.type != "cpu" and t in _homes and t.is_leaf and t.grad is not None:
        _homes[t.grad] = _homes[t]  # it is described with its parameter, and has to be at the same home
    description = _describe(self, t, **kwargs)
    if t.device.type != "cpu":  # the one test on the common way
        home = home_of(t)
        if description.device != home:
            object.__setattr__(description, "device", home)
    return description


MetaTensorDescriber.describe_tensor = _describe_at_home  # type: ignore[method-assign]
