"""How tensors lie in memory, read off their types."""

from __future__ import annotations

from torchplace.compiler.graph import Value
from torchplace.compiler.types import TensorType, contiguous_strides, torch_dtype


def tensor_type(value: object) -> TensorType:
    """The type of an argument that is a tensor.

    Raises:
        AttributeError: it is none.
    """
    kind = value.type if isinstance(value, Value) else None
    if not isinstance(kind, TensorType):
        raise AttributeError("no tensor")
    return kind


def item_bytes(kind: TensorType) -> int:
    """Bytes of an element."""
    return torch_dtype(kind.dtype).itemsize


def is_channels_last(kind: TensorType) -> bool:
    """Whether the channels of an image, or of a kernel's weight, are innermost."""
    sizes, stride = kind.sizes, kind.stride
    return stride is not None and len(sizes) > 3 and sizes[1] > 1 and stride[1] == 1 and stride[-1] == sizes[1]


def contiguous_copy(kind: TensorType) -> int:
    """Bytes of the copy that a kernel makes of what it wants contiguous; 0 for what is so."""
    return 0 if kind.stride in (None, contiguous_strides(kind.sizes)) else kind.nbytes
