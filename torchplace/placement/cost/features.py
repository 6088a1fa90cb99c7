"""Features of an op: the numbers that a regression may predict its cost from."""

from __future__ import annotations

from torchplace.compiler.graph import Op
from torchplace.compiler.types import TensorType
from torchplace.placement.cost.compute import bytes_touched, is_free


def features(op: Op) -> dict[str, float]:
    """Work, traffic and sizes of an op, at the hints; all 0 or more.

    Returns:
        flops; bytes read and written (`bytes_touched`); `made`, bytes of the outputs that are no views; `elements`,
        of the largest tensor; `tensors`, how many it takes; `strided`, bytes of inputs that are not contiguous;
        `free`, 1 where the roofline takes it for free.
    """
    tensors = [v for v in op.inputs if isinstance(v.type, TensorType)]
    made = [v for v in op.outputs if isinstance(v.type, TensorType)]
    sizes = [v.type.numel for v in (*tensors, *made) if isinstance(v.type, TensorType)]
    strided = [v.nbytes for v in tensors if isinstance(v.type, TensorType) and v.type.stride is not None]
    return {
        "flops": float(op.flops),
        "bytes": float(bytes_touched(op)),
        "made": float(sum(v.nbytes for v in made if v.base is None)),
        "elements": float(max(sizes, default=0)),
        "tensors": float(len(tensors)),
        "strided": float(sum(strided)),
        "free": float(is_free(op)),
    }
