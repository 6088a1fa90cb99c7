"""What convolutions take for themselves on a CPU: copies of tensors in oneDNN's own layouts, and scratch.

oneDNN computes convolutions on tensors whose channels come in blocks of a vector's floats; it copies there and back.
Which way torch 2.13 goes, and what oneDNN asks the allocator for, was read off what they do on a CPU with AVX-512.
"""

from __future__ import annotations

import functools
import math

import torch

from torchplace.compiler.graph import Op
from torchplace.compiler.types import TensorType
from torchplace.placement.cost.layouts import contiguous_copy, is_channels_last, item_bytes, tensor_type

_WIDEST = 14
"""Elements along a side of the largest kernel that oneDNN has code for, where its weight's gradient is wanted or the
channels are in groups."""

_SMALL = 20_480
"""Elements of the largest single image that torch convolves itself."""

_SCRATCH = 32_768
"""Bytes that each thread of a strided convolution's gradient works in, about."""


@functools.cache
def block() -> int:
    """Channels in a block of oneDNN's layouts: the float32 that a vector register of this CPU holds."""
    return 16 if "AVX512" in torch.backends.cpu.get_cpu_capability() else 8


def _padded(channels: int) -> int:
    return -(-channels // block()) * block()


def _blocked(kind: TensorType, groups: int = 1) -> int:
    """Bytes of [batch, channels, ...], in blocks; grouped channels are in blocks only where each has its own group."""
    batch, channels, *rest = kind.sizes
    whole = groups > 1 and channels != groups
    return batch * (channels if whole else _padded(channels)) * math.prod(rest) * item_bytes(kind)


def _blocked_weight(kind: TensorType, groups: int = 1, first: bool = False) -> int:
    """Bytes of a convolution's weight [out, in of a group, ...]; the `first` of a network has few channels in."""
    made, taken, *window = kind.sizes
    if groups > 1:
        channels = _padded(groups) if made == groups and taken == 1 else made * taken
    else:
        channels = _padded(made) * (taken if first else _padded(taken))
    return channels * math.prod(window) * item_bytes(kind)


def _reads_channels_last(weight: TensorType) -> bool:
    """Whether a weight is laid out for channels that come last, too."""
    return is_channels_last(weight) or math.prod(weight.sizes[2:]) == 1


def _is_strided(stride: object) -> bool:
    return any(s > 1 for s in stride)  # type: ignore[attr-defined]


def _by_onednn(x: TensorType, weight: TensorType, stride: object, groups: int, threads: int) -> bool:
    """Whether torch gives a convolution to oneDNN, as `ConvParams::use_mkldnn` decides: not where it is small."""
    kernel, batch = weight.sizes[2:], x.sizes[0]
    pixels = math.prod(kernel) == 1 and not _is_strided(stride) and batch < 16 and threads == 1
    small = groups == 1 and batch == 1 and x.numel <= _SMALL and not (len(kernel) > 1 and min(kernel) > 3)
    return not pixels and not small


def _patches(taken: TensorType, weight: TensorType, made: TensorType) -> int:
    """Bytes of all patches of the images, laid out for a matrix product; none are laid out for single pixels."""
    window = math.prod(weight.sizes[2:])
    pixels = taken.sizes[0] * math.prod(made.sizes[2:])
    return weight.sizes[1] * window * pixels * item_bytes(taken) if window > 1 else 0


def _subsampled(x: TensorType, weight: TensorType, y: TensorType, threads: int) -> int:
    """The pixels of one image that a strided convolution of single pixels takes, for each thread."""
    if math.prod(weight.sizes[2:]) > 1:
        return 0
    return threads * x.sizes[1] * math.prod(y.sizes[2:]) * item_bytes(x)


def convolution(op: Op, threads: int) -> int:
    """Bytes that a convolution takes: first for copies of all three tensors, then for the result as torch wants it."""
    x, weight, y = tensor_type(op.args[0]), tensor_type(op.args[1]), tensor_type(op.outputs[0])
    stride, transposed, groups = op.args[3], op.args[6], op.args[8]
    strided = _is_strided(stride)
    if not transposed and not _by_onednn(x, weight, stride, groups, threads):
        return _patches(x, weight, y)
    if groups > 1 and max(weight.sizes[2:], default=1) > _WIDEST:  # by matrix products, a group in each thread
        return threads * _patches(x, weight, y) // x.sizes[0]
    if is_channels_last(x) and not transposed:
        copies = 1 if groups > 1 or _reads_channels_last(weight) else 2
        return copies * weight.nbytes + (0 if groups > 1 else 4096 * (threads + 1))
    if transposed and strided:
        return _scattered(x, weight, y, groups, threads) - y.nbytes
    first = groups == 1 and x.sizes[1] < block() and not transposed
    own = _blocked(y, groups)
    taken = (0 if first else _blocked(x, groups)) + _blocked_weight(weight, groups, first) + own
    taken += _subsampled(x, weight, y, threads) if strided else 0
    return max(taken, own + y.nbytes) - y.nbytes


def _scattered(few: TensorType, weight: TensorType, many: TensorType, groups: int, threads: int) -> int:
    """Bytes at most while each pixel of `few` is spread over several of `many`: channels last, then two copies."""
    return max(
        few.nbytes + _blocked_weight(weight, groups) + many.nbytes + _SCRATCH * threads,
        3 * many.nbytes,
    )


def convolution_backward(op: Op, threads: int) -> int:
    """First the gradient of the input, then, with that at hand, those of weight and bias."""
    dy, x, weight = tensor_type(op.args[0]), tensor_type(op.args[1]), tensor_type(op.args[2])
    stride, transposed, groups, wanted = op.args[4], op.args[7], op.args[9], op.args[10]
    if not transposed and not _by_onednn(x, weight, stride, groups, threads):
        return _patches(x, weight, dy)
    last, strided = is_channels_last(x), _is_strided(stride) and groups == 1
    made = sum(v.storage_bytes for v in op.outputs)
    dx = x.nbytes if wanted[0] else 0
    copy = 0 if is_channels_last(dy) and last else dy.nbytes if last else contiguous_copy(dy)
    peaks = [0]
    if wanted[0] and strided and not transposed and not last:
        peaks.append(_scattered(dy, weight, x, groups, threads))
    elif wanted[0] and not last:
        own = _blocked(x, groups)
        peaks.append(own + max(_blocked(dy, groups) + _blocked_weight(weight, groups), dx))
    if wanted[1] or wanted[2]:
        peaks.append(dx + _weight_gradient(dy, x, weight, groups, threads))
        peaks[-1] += _subsampled(x, weight, dy, threads) if strided and not last else 0
    return copy + max(peaks) - made


def _weight_gradient(dy: TensorType, x: TensorType, weight: TensorType, groups: int, threads: int) -> int:
    last, widest = is_channels_last(x), max(weight.sizes[2:], default=1)
    if widest > (_WIDEST if groups == 1 else 3) and not last:  # by matrix products, of patches that are laid out
        patches = _patches(x, weight, dy) // x.sizes[0]
        return weight.nbytes + (min(threads, x.sizes[0]) if groups == 1 else 1) * (4 * weight.nbytes + patches)
    if last and groups > 1:  # blocks of a group's own, mostly empty
        made, taken, *window = weight.sizes
        own = groups * _padded(made // groups) * _padded(taken) * math.prod(window) * item_bytes(weight)
        return own + 2 * weight.nbytes
    if last:
        return (3 if _reads_channels_last(weight) else 4) * weight.nbytes
    few = groups == 1 and x.sizes[1] < block()
    copies = _blocked(dy, groups) + (0 if few else _blocked(x, groups))
    return _blocked_weight(weight, groups, few) + max(copies, weight.nbytes)
