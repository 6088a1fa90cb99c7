"""Where the parameters and buffers of placed models live, and moving them there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from torchplace.compiler import strays
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


def move_in_place(tensors: Mapping[str, torch.Tensor], devices: Mapping[str, torch.device], home: torch.device) -> None:
    """Move parameters and buffers to the devices that the plan gave them; the objects stay, so optimizers do too.

    CPU devices share memory: nothing moves. Captures go on seeing each tensor where eager had it.

    Args:
        tensors: by name.
        devices: name -> torch device.
        home: of the model; what eager has on the CPU, where this is an accelerator, is left there.

    Raises:
        Restart: one has moved that was taken before, in this call.
    """
    away = []
    for name, tensor in tensors.items():
        target = devices.get(name)
        if target is None or target == tensor.device or target.type == tensor.device.type == "cpu":
            continue
        if not home_of(tensor).type == "cpu" != home.type:
            _move(tensor, target)
            away.append(tensor)
    strays.moved(away)


def keep_only(
    tensors: Mapping[str, torch.Tensor], mine: Mapping[str, torch.Tensor], device: torch.device, home: torch.device
) -> None:
    """Let some parameters and buffers stand on a device, and the others on the meta device, where they take no memory.

    The objects stay, so optimizers do too: they pass over parameters without a gradient. Captures go on seeing each
    tensor where eager had it.

    Args:
        tensors: all, by name.
        mine: those that are kept.
        device: where they are kept.
        home: of the model; what eager has on the CPU, where this is an accelerator, is left there.
    """
    for name, tensor in tensors.items():
        target = device if name in mine else torch.device("meta")
        if tensor.device != target and not (name in mine and home_of(tensor).type == "cpu" != home.type):
            _move(tensor, target)


def _move(tensor: torch.Tensor, target: torch.device) -> None:
    """Move a tensor and its gradient, which the meta device has no use for; captures go on seeing it at its home."""
    stood = home_of(tensor)
    with torch.no_grad():
        grad = None if tensor.grad is None or target.type == "meta" else tensor.grad.to(target)
        _become(tensor, tensor.detach().to(target), grad)
    set_home(tensor, stood)


def fill(tensor: torch.Tensor, values: torch.Tensor) -> None:
    """Give a tensor on the meta device its values; the object stays, and captures go on seeing it at its home."""
    stood = home_of(tensor)
    with torch.no_grad():
        _become(tensor, values, None)
    if stood.type != "meta":
        set_home(tensor, stood)


def _become(tensor: torch.Tensor, data: torch.Tensor, grad: torch.Tensor | None) -> None:
    """Give a tensor other data and another gradient, on another device; whoever holds it holds the same object."""
    requires_grad, hooks, after = tensor.requires_grad, tensor._backward_hooks, tensor._post_accumulate_grad_hooks
    tensor.grad = None
    if torch._has_compatible_shallow_copy_type(tensor, data):
        tensor.data = data
    else:  # of a kind that torch calls incompatible, as all PrivateUse1 devices are with the CPU
        torch._C._swap_tensor_impl(tensor, data.requires_grad_(requires_grad))
        tensor._backward_hooks, tensor._post_accumulate_grad_hooks = hooks, after
    tensor.grad = grad
