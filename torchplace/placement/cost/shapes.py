"""Shapes of products: what a matrix product, a convolution or an attention multiplies with what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torchplace.compiler.graph import Op, Value
from torchplace.compiler.types import TensorType

Sizes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """A batch of products of [m, k] with [k, n].

    A convolution counts as the product that it is (im2col; Chellapilla et al., "High performance convolutional neural
    networks for document processing", 2006): [channels out, channels in * kernel] with [.., batch * pixels out], one
    for each group. Attention counts as one product of [queries, size] with [size, keys] for each head; it does two
    of them, its gradient five.

    Attributes:
        batch, m, n, k: sizes, at the hints.
        window: elements of a convolution's kernel; else 1.
        times: how many such products the op does: by its FLOPs.
    """

    batch: int
    m: int
    n: int
    k: int
    window: int = 1
    times: float = 1.0

    @property
    def flops(self) -> float:
        """A multiply-add counts two."""
        return 2.0 * self.times * self.batch * self.m * self.n * self.k


def product_of(op: Op) -> Product | None:
    """The product that an op computes; None for any other op. Cost: constant."""
    base = base_target(op.target)
    if base in _MATRIX:
        return _MATRIX[base](op)
    if base in ("aten.convolution", "aten._convolution"):
        return _convolution(op, 0, 1, op.outputs[0] if op.outputs else None, 6)
    if base == "aten.convolution_backward":
        return _convolution(op, 1, 2, op.args[0], 7)
    if base in ("aten._grouped_mm", "transformers.grouped_mm_fallback", "transformers.grouped_mm_fallback_backward"):
        return _grouped(op)
    if "scaled_dot_product" in base or base.startswith(("aten._flash_attention", "aten._efficient_attention")):
        return _attention(op, 1 if base.endswith("_backward") else 0)
    return None


def base_target(target: str) -> str:
    """A target without its overload: `aten.mm` of `aten.mm.default`."""
    head, _, overload = target.rpartition(".")
    return head if head.count(".") >= 1 and overload else target


def _sizes(op: Op, index: int) -> Sizes:
    """Sizes of a positional argument; () where it is no tensor."""
    value = op.args[index] if index < len(op.args) else None
    return value.type.sizes if isinstance(value, Value) and isinstance(value.type, TensorType) else ()


def _matrices(first: int) -> Callable[[Op], Product | None]:
    """Of [m, k] and [k, n], or batches of them."""

    def product(op: Op) -> Product | None:
        left, right = _sizes(op, first), _sizes(op, first + 1)
        if len(left) < 2 or len(right) < 2:
            return None
        return Product(left[0] if len(left) > 2 else 1, left[-2], right[-1], left[-1])

    return product


def _vector(first: int) -> Callable[[Op], Product | None]:
    def product(op: Op) -> Product | None:
        left = _sizes(op, first)
        return Product(1, left[0] if len(left) > 1 else 1, 1, left[-1]) if left else None

    return product


_MATRIX: dict[str, Callable[[Op], Product | None]] = {
    "aten.mm": _matrices(0),
    "aten.bmm": _matrices(0),
    "aten.addmm": _matrices(1),
    "aten.baddbmm": _matrices(1),
    "aten.addbmm": _matrices(1),
    "aten.mv": _vector(0),
    "aten.addmv": _vector(1),
    "aten.dot": _vector(0),
}


def _convolution(op: Op, image: int, kernel: int, made: object, transposed: int) -> Product | None:
    taken, weight = _sizes(op, image), _sizes(op, kernel)
    result = made.type.sizes if isinstance(made, Value) and isinstance(made.type, TensorType) else ()
    if len(taken) < 3 or len(weight) < 3 or len(result) < 3:
        return None
    groups = int(op.args[transposed + 2]) if len(op.args) > transposed + 2 else 1
    window, pixels = _count(weight[2:]), _count(result[2:])
    outside, inside = weight[0] // groups, weight[1]
    if len(op.args) > transposed and op.args[transposed] is True:  # each input pixel is spread over the kernel
        outside, inside, pixels = weight[1], weight[0] // groups, _count(taken[2:])
    once = 2 * groups * outside * inside * window * taken[0] * pixels
    return Product(groups, outside, taken[0] * pixels, inside * window, window, op.flops / once if once else 1.0)


def _grouped(op: Op) -> Product | None:
    """A matrix for each group: of rows, of columns, or of what is summed over; groups count as equally large."""
    left, right, ends = (_sizes(op, i) for i in range(3))
    if len(left) < 2 or len(right) < 2 or not (ends and ends[0]):
        return None
    m, n, k, groups = left[-2], right[-1], left[-1], ends[0]
    if len(left) == len(right) == 2:
        k = -(-k // groups)
    elif len(left) == 2:
        m = -(-m // groups)
    elif len(right) == 2:
        n = -(-n // groups)
    once = 2 * groups * m * n * k
    return Product(groups, m, n, k, 1, op.flops / once if once and op.flops else 1.0)


def _attention(op: Op, first: int) -> Product | None:
    query, key = _sizes(op, first), _sizes(op, first + 1)
    if len(query) < 3 or len(key) < 3:
        return None
    return Product(_count(query[:-2]), query[-2], key[-2], query[-1], 1, 5.0 if first else 2.0)


def _count(sizes: Sizes) -> int:
    count = 1
    for size in sizes:
        count *= size
    return count
