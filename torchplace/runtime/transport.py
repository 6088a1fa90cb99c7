"""Moves tensors between torch devices, strides kept: the graph was captured for them."""

from __future__ import annotations

import torch


def copy_to(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy of `tensor` on `device` with the same sizes and strides.

    Dims that repeat one element (stride 0, as `expand` makes them) are moved once and repeated again there.
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
    there.copy_(once, non_blocking=True)
    return there if once is tensor else there.expand_as(tensor)


def same_memory(source: torch.device, target: torch.device) -> bool:
    """Whether devices share an address space, so that handing over a reference is the whole transfer."""
    return source.type == "cpu" and target.type == "cpu"
