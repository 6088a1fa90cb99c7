"""Where the parameters and buffers of placed models live, and moving them there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from torchplace.compiler.homes import home_of, set_home


class Owners:
    """Tensor -> name of the device that owns it, of one compiled model. Holds no tensor alive."""

    def __init__(self) -> None:
        """Nothing is owned yet."""
        self._owners = WeakTensorKeyDictionary()

    def of(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
        """The owners of those tensors that have one, by the names given."""
        return {name: self._owners[t] for name, t in tensors.items() if t in self._owners}

    def settle(self, tensors: Mapping[str, torch.Tensor], devices: Mapping[str, str]) -> None:
        """Let every tensor be owned by its device, unless it is owned already."""
        for name, tensor in tensors.items():
            if tensor not in self._owners and name in devices:
                self._owners[tensor] = devices[name]


def move_in_place(tensors: Mapping[str, torch.Tensor], devices: Mapping[str, torch.device]) -> None:
    """Move parameters and buffers to the devices that the plan gave them; the objects stay, so optimizers do too.

    CPU devices share memory: nothing moves. Captures go on seeing each tensor where eager had it.

    Args:
        tensors: by name.
        devices: name -> torch device.
    """
    for name, tensor in tensors.items():
        target = devices.get(name)
        if target is None or target == tensor.device or target.type == tensor.device.type == "cpu":
            continue
        set_home(tensor, home_of(tensor))
        with torch.no_grad():
            tensor.data = tensor.data.to(target)
            if tensor.grad is not None:
                tensor.grad.data = tensor.grad.data.to(target)
