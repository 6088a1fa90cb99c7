"""Streams, events and copies of any torch accelerator; the only file that knows them.

Written against `torch.accelerator`, `torch.Stream` and `torch.Event` alone, so that CUDA, ROCm, XPU or any
PrivateUse1 device runs it. CPU devices need none of it: they share memory, so a reference is the transfer.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from torchplace.runtime.transport import copy_to, same_memory


@dataclass(frozen=True, slots=True)
class Parcel:
    """A tensor on its way: the copy, and the event behind which it is complete."""

    tensor: Any
    done: torch.Event | None = None


class Courier:
    """Sends from one device to another, on a stream of its own so that the sender goes on computing."""

    def __init__(self, source: torch.device, target: torch.device) -> None:
        """Prepare to send from `source` to `target`."""
        self.source, self.target = source, target
        self._stream: torch.Stream | None = None

    def send(self, value: Any, copy: bool) -> Parcel:
        """Start moving a value.

        Args:
            value: a tensor, or a scalar, which is passed on as it is.
            copy: the receiver must get memory of its own, for the sender will overwrite its.
        """
        if not isinstance(value, torch.Tensor):
            return Parcel(value)
        if same_memory(self.source, self.target):
            return Parcel(copy_to(value, self.target) if copy else value)
        if not is_accelerator(self.source):
            return Parcel(copy_to(value, self.target))
        return self._copy_on_stream(value)

    def _copy_on_stream(self, tensor: torch.Tensor) -> Parcel:
        if self._stream is None:
            self._stream = torch.Stream(device=self.source)
        self._stream.wait_event(torch.accelerator.current_stream(self.source).record_event())
        with self._stream:
            there = copy_to(tensor, self.target)
        tensor.record_stream(self._stream)  # its memory is not reused before the copy has read it
        return Parcel(there, self._stream.record_event())

    def receive(self, parcel: Parcel) -> Any:
        """The value, once the target's current stream may use it; the host does not wait."""
        if parcel.done is not None:
            if is_accelerator(self.target):
                stream = torch.accelerator.current_stream(self.target)
                stream.wait_event(parcel.done)
                parcel.tensor.record_stream(stream)
            else:
                parcel.done.synchronize()
        return parcel.tensor


def is_accelerator(device: torch.device) -> bool:
    """Whether a torch device has streams: it is of the kind of this build's accelerator."""
    current = torch.accelerator.current_accelerator()
    return current is not None and current.type == device.type


def on_device(device: torch.device) -> AbstractContextManager[Any]:
    """Within, `device` is the current one of this thread."""
    return torch.accelerator.device_index(device.index or 0) if is_accelerator(device) else nullcontext()


def synchronize(device: torch.device) -> None:
    """Wait till a device has done all that it was given."""
    if is_accelerator(device):
        torch.accelerator.synchronize(device)
