"""Types of values: tensors whose dims are integers or symbols with hints, and scalars."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import torch

from torchplace.errors import GraphError


@dataclass(frozen=True, slots=True)
class Symbol:
    """A dim that is not known until the call: an expression over symbols, and its value at capture.

    Attributes:
        expr: the expression as text, `s0` or `2*s0 + 1`.
        hint: the integer that it had when the graph was captured; costs are computed with it.
    """

    expr: str
    hint: int

    def __str__(self) -> str:
        return f"<{self.expr}={self.hint}>"


Dim = int | Symbol


def hint_of(dim: Dim) -> int:
    """The integer that stands for a dim in costs: itself, or a symbol's hint."""
    return dim.hint if isinstance(dim, Symbol) else dim


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides of a shape, in elements."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


@functools.cache
def torch_dtype(name: str) -> torch.dtype:
    """The `torch.dtype` of a short name such as `float32`.

    Raises:
        GraphError: there is no such dtype.
    """
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise GraphError(f"unknown dtype {name!r}; expected the short name of a torch dtype, such as 'float32'")
    return dtype


@dataclass(frozen=True)
class TensorType:
    """Dtype, shape and strides of a tensor; strides are in elements, at the hints where dims are symbols.

    Attributes:
        dtype: short name, `float32`.
        shape: dims, outermost first.
        stride: strides at the hints; None means contiguous.
    """

    dtype: str
    shape: tuple[Dim, ...]
    stride: tuple[int, ...] | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape with every symbol replaced by its hint."""
        return tuple(hint_of(d) for d in self.shape)

    @property
    def strides(self) -> tuple[int, ...]:
        """The strides, at the hints, contiguous ones too."""
        return contiguous_strides(self.sizes) if self.stride is None else self.stride

    @property
    def is_static(self) -> bool:
        """Whether all dims are numbers."""
        return not any(isinstance(dim, Symbol) for dim in self.shape)

    @property
    def numel(self) -> int:
        """Number of elements, at the hints."""
        count = 1
        for size in self.sizes:
            count *= size
        return count

    @functools.cached_property
    def nbytes(self) -> int:
        """Bytes of the elements, at the hints: what a transfer moves."""
        return self.numel * torch_dtype(self.dtype).itemsize

    @functools.cached_property
    def storage_bytes(self) -> int:
        """Bytes of memory of its own that it takes, at the hints: up to its last element, repeated ones once."""
        if self.stride is None or not self.numel:
            return self.nbytes
        last = sum((size - 1) * step for size, step in zip(self.sizes, self.stride, strict=True))
        return (last + 1) * torch_dtype(self.dtype).itemsize

    @property
    def structure(self) -> str:
        """The type as text without what is only a hint: the same at every size of its symbols."""
        if self.is_static:
            return str(self)
        return f"{self.dtype}[{', '.join(d.expr if isinstance(d, Symbol) else str(d) for d in self.shape)}]"

    def __str__(self) -> str:
        text = f"{self.dtype}[{', '.join(map(str, self.shape))}]"
        return text if self.stride is None else f"{text}({', '.join(map(str, self.stride))})"


@dataclass(frozen=True, slots=True)
class ScalarType:
    """A number or another small host object that ops pass on: it lives in host memory and costs nothing.

    Attributes:
        kind: `int`, `float`, `bool` or `object`.
        symbol: what is known of an integer: its expression and hint.
    """

    kind: str
    symbol: Symbol | None = None

    @property
    def nbytes(self) -> int:
        """Eight: a scalar travels as one word."""
        return 8

    @property
    def storage_bytes(self) -> int:
        """None: it takes no memory of a device."""
        return 0

    @property
    def structure(self) -> str:
        """The type as text, without a symbol's hint."""
        return self.kind if self.symbol is None else f"{self.kind}<{self.symbol.expr}>"

    def __str__(self) -> str:
        return self.kind if self.symbol is None else f"{self.kind}{self.symbol}"


Type = TensorType | ScalarType

_DIM = re.compile(r"<([^<>=]+)=(-?\d+)>|(-?\d+)")
_TENSOR = re.compile(r"(\w+)\[([^\]]*)\](?:\(([^)]*)\))?\Z")
_SCALAR = re.compile(r"(int|float|bool|object)(?:<([^<>=]+)=(-?\d+)>)?\Z")


def parse_type(text: str) -> Type:
    """Read a type as `str()` of it prints.

    Raises:
        GraphError: the text is no type.
    """
    if match := _SCALAR.match(text):
        kind, expr, hint = match.groups()
        return ScalarType(kind, None if expr is None else Symbol(expr, int(hint)))
    found = _parse_tensor(text)
    if found is None or str(found) != text:  # what the patterns skipped over would be lost in silence
        raise GraphError(f"cannot read the type {text!r}; expected one like 'float32[2, <s0=16>]' or 'int'")
    return found


def _parse_tensor(text: str) -> TensorType | None:
    if not (match := _TENSOR.match(text)):
        return None
    dtype, dims, strides = match.groups()
    torch_dtype(dtype)
    shape = tuple(Symbol(e, int(h)) if e else int(n) for e, h, n in _DIM.findall(dims))
    return TensorType(dtype, shape, None if strides is None else tuple(map(int, re.findall(r"-?\d+", strides))))
