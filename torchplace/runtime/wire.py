"""How a value goes between processes: as a row of bytes whose form both ends know from its type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from torchplace.compiler.types import TensorType, Type, torch_dtype
from torchplace.errors import ExecutionError
from torchplace.runtime.transport import laid_out

_NUMBERS = {"int": torch.int64, "bool": torch.int64, "float": torch.float64}


Receive = Callable[[int, bool], torch.Tensor]
"""Waits for the next row of so many bytes, which comes from device to device, or through the host."""


class Wire:
    """Packs values of one type into bytes, and unpacks them.

    Dims that repeat one element (stride 0) are moved once. What has no gaps goes as it lies in memory.

    Attributes:
        direct: the bytes go from device to device.
    """

    def __init__(self, kind: Type, device: torch.device, direct: bool = False) -> None:
        """Of values that arrive on `device`.

        Args:
            kind: of the values.
            device: of both ranks.
            direct: tensors go from device to device, and not through the host.

        Raises:
            ExecutionError: values of this type cannot go between ranks.
        """
        self.kind, self.device = kind, device
        self.direct = direct and isinstance(kind, TensorType)
        if not isinstance(kind, TensorType):
            if kind.kind not in _NUMBERS:
                raise ExecutionError(f"a value of type {kind} cannot go between ranks; keep its ops on one device")
            self.dtype, self.dense = _NUMBERS[kind.kind], True
            self.sizes: tuple[int, ...] = ()
            self.strides: tuple[int, ...] = ()
            return
        self.dtype = torch_dtype(kind.dtype)
        self.whole = tuple(kind.sizes)
        repeated = [stride == 0 and size > 1 for size, stride in zip(self.whole, kind.strides, strict=True)]
        self.sizes = tuple(1 if again else size for size, again in zip(self.whole, repeated, strict=True))
        self.strides = kind.strides
        form = torch.empty_strided(self.sizes, self.strides, device="meta")
        self.dense = form.untyped_storage().nbytes() == form.numel() * form.element_size()

    @classmethod
    def like(cls, tensor: torch.Tensor) -> Wire:
        """Of contiguous tensors of the same sizes and type as one, which arrive on the host."""
        kind = TensorType(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        return cls(kind, torch.device("cpu"))

    @property
    def nbytes(self) -> int:
        """Bytes on the way."""
        count = 1
        for size in self.sizes:
            count *= size
        return int(count * self.dtype.itemsize)

    def rows(self, value: Any) -> list[tuple[torch.Tensor, bool]]:
        """What is sent for a value: rows of bytes, and whether they go from device to device."""
        return [(self.pack(value), self.direct)]

    def come(self, receive: Receive) -> Any:
        """The value that comes next."""
        return self.unpack(receive(self.nbytes, self.direct))

    def pack(self, value: Any) -> torch.Tensor:
        """The bytes of a value, where it is, or on the device if they go from there; its own memory where it can be."""
        if not isinstance(value, torch.Tensor):
            return torch.tensor([value], dtype=self.dtype).view(torch.uint8)
        once = value.detach()
        for dim, (size, whole) in enumerate(zip(self.sizes, once.shape, strict=True)):
            once = once.narrow(dim, 0, 1) if size != whole else once
        if self.dense:
            row = laid_out(once, self.strides).as_strided((once.numel(),), (1,))
        else:
            row = once.contiguous().view(-1)
        return (row.to(self.device) if self.direct else row).view(torch.uint8)

    def unpack(self, row: torch.Tensor) -> Any:
        """The value, where it is wanted; in the memory that it came in where it can be."""
        if not isinstance(self.kind, TensorType):
            number = row.view(self.dtype).item()
            return bool(number) if self.kind.kind == "bool" else number
        typed = row.to(self.device).view(self.dtype)
        if self.dense:
            once = typed.as_strided(self.sizes, self.strides)
        else:
            once = torch.empty_strided(self.sizes, self.strides, dtype=self.dtype, device=self.device)
            once.copy_(typed.view(self.sizes))
        return once.expand(self.whole) if self.sizes != self.whole else once


class OpenWire:
    """How tensors go whose dims hang on values: first their sizes, then what is in them, without gaps."""

    def __init__(self, kind: TensorType, device: torch.device, direct: bool = False) -> None:
        """Of values that arrive on `device`; see `Wire`."""
        self.kind, self.device, self.direct = kind, device, direct
        self.sizes = Wire(TensorType("int64", (len(kind.sizes),)), torch.device("cpu"))

    def rows(self, value: torch.Tensor) -> list[tuple[torch.Tensor, bool]]:
        """See `Wire`."""
        sizes = torch.tensor(value.shape, dtype=torch.int64)
        return [*self.sizes.rows(sizes), *self._of(value.shape).rows(value)]

    def come(self, receive: Receive) -> torch.Tensor:
        """See `Wire`."""
        value: torch.Tensor = self._of(self.sizes.come(receive).tolist()).come(receive)
        return value

    def _of(self, sizes: Sequence[int]) -> Wire:
        return Wire(TensorType(self.kind.dtype, tuple(sizes)), self.device, self.direct)


def wire_of(kind: Type, device: torch.device, direct: bool = False) -> Wire | OpenWire:
    """How values of a type go; see `Wire`."""
    if isinstance(kind, TensorType) and not kind.is_static:
        return OpenWire(kind, device, direct)
    return Wire(kind, device, direct)
