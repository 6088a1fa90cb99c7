"""Families of ops: which ops are alike enough for the cost of one to tell that of another."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torchplace.placement.cost.compute import PARALLEL_ELEMENTS
from torchplace.placement.cost.shapes import base_target

_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("attention", ("scaled_dot_product", "_flash_attention", "_efficient_attention")),
    ("convolutions", ("convolution",)),
    ("products", ("mm", "linear", "einsum", "addmv", "aten.mv", "aten.dot", "mkldnn_rnn", "lstm", "gru")),
    ("normalisations", ("norm", "softmax")),
    ("reductions", (
        "sum", "mean", "amax", "amin", "argm", "var", "std", "prod", "any", "all", "loss", "max.dim", "min.dim", "cum",
        "topk", "sort",
    )),
    ("gathers", ("embedding", "gather", "scatter", "index", "take", "one_hot")),
    ("windows", ("pool", "upsample", "interpol", "grid_sample", "im2col", "col2im")),
    ("copies", (
        "clone", "copy", "cat", "stack", "pad", "empty", "zeros", "ones", "full", "fill", "arange", "roll", "flip",
        "repeat", "_backward.slice", "slice_backward", "select_backward", "scalar_tensor", "rand", "bernoulli", "split",
    )),
)  # fmt: skip
"""Kind -> parts of the names of its ops; the first kind that fits. All else is elementwise, or a view."""


def family_of(target: str, features: Mapping[str, float]) -> str:
    """The family: the target without its overload, and the dtype where it is not a float of 4 bytes."""
    base = base_target(target)
    whole, item = features["whole"], int(features["item"])
    return base if item == 4 and not whole else f"{base}/int" if whole else f"{base}/float{8 * item}"


def kind_of(target: str, features: Mapping[str, float]) -> str:
    """The kind of op that a family belongs to; its regression stands in for families with hardly a sample."""
    if features["free"]:
        return "views"
    base = base_target(target)
    return next((kind for kind, parts in _KINDS if any(part in base for part in parts)), "elementwise")


def terms(features: Mapping[str, float]) -> list[float]:
    """What seconds are a sum of, each with a factor of 0 or more: a constant, work and traffic.

    Work and traffic count apart where torch splits an op over its threads, and so does the constant: the threads
    must be woken. Traffic beyond 1 MiB and beyond 16 MiB counts once more, for it leaves the caches.
    """
    split = float(features["elements"] >= PARALLEL_ELEMENTS)
    work, traffic = max(features["flops"], features["work"]), features["bytes"]
    return [
        1.0,
        features["tensors"],
        split,
        work * (1 - split),
        work * split,
        traffic * (1 - split),
        traffic * split,
        max(0.0, traffic - 2**20),
        max(0.0, traffic - 2**24),
        features["fresh"],
        features["scattered"],
        features["strided"],
        features["kept"],
        features["batch"],
    ]


def places(features: Mapping[str, float]) -> list[float]:
    """Coordinates of an op: ops are alike that lie close together. Sizes count by their doublings."""
    return [scale * math.log2(1 + features[name]) for name, scale in _SCALES]


_SCALES: tuple[tuple[str, float], ...] = (
    ("flops", 1.0), ("work", 1.0), ("bytes", 1.0), ("made", 1.0), ("fresh", 0.25), ("inner", 1.0), ("kept", 1.0),
    ("scattered", 0.5), ("strided", 0.5), ("free", 4.0), ("tensors", 2.0), ("batch", 1.0), ("m", 1.0), ("n", 1.0),
    ("k", 1.0), ("window", 2.0), ("apart", 2.0), ("variant", 1.0), ("item", 2.0), ("before", 0.5),
)  # fmt: skip
