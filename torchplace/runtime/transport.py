"""Moves tensors between torch devices, strides kept: the graph was captured for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def copy_to(tensor: torch.Tensor, device: torch.device, non_blocking: bool = True) -> torch.Tensor:
    """A copy of `tensor` on `device` with the same sizes and strides.

    Dims that repeat one element (stride 0, as `expand` makes them) are moved once and repeated again there.

    Args:
        tensor: on any device.
        device: where the copy is made.
        non_blocking: let the device copy while the host goes on; the caller waits before it relies on the copy.
    """
    if tensor.layout is not torch.strided:
        return tensor.to(device, copy=True)
    once = tensor
    for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if stride == 0 and size > 1:
            once = once.narrow(dim, 0, 1)
    if torch._debug_has_internal_overlap(once) == 1:  # other overlaps cannot be copied in place
        return once.to(device, copy=True).expand_as(tensor)
    there = torch.empty_strided(once.size(), once.stride(), dtype=once.dtype, device=device)
    overwrite(there, once, non_blocking)
    return there if once is tensor else there.expand_as(tensor)


def laid_out(tensor: torch.Tensor, strides: Sequence[int]) -> torch.Tensor:
    """A tensor of the same elements with these strides: itself where it has them."""
    if all(s == w or n == 1 for s, w, n in zip(tensor.stride(), strides, tensor.shape, strict=True)):
        return tensor
    there = torch.empty_strided(tensor.size(), tuple(strides), dtype=tensor.dtype, device=tensor.device)
    return there.copy_(tensor)


def bring(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy of the caller's tensor for a program, or of a program's for the caller, in order with all other work.

    The host waits where it could notice otherwise: for what it is given, and for what it might overwrite in pinned
    memory before that was copied.
    """
    on_host = device.type == "cpu" or (tensor.device.type == "cpu" and tensor.is_pinned())
    return copy_to(tensor, device, non_blocking=not on_host)


def overwrite(target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> None:
    """Copy the elements of `source` to `target`, which may be on another device.

    `Tensor.copy_` asks for the devices even where both tensors are fake, on devices that this build does not know.
    """
    torch.ops.aten.copy_.default(target, source, non_blocking)


def same_memory(source: torch.device, target: torch.device) -> bool:
    """Whether devices share an address space, so that handing over a reference is the whole transfer."""
    return source.type == "cpu" and target.type == "cpu"
