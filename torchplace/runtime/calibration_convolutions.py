"""Convolutional models of the calibration set, of random sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from torchplace.runtime.calibration_models import Chain, Sizes


class Convolution(NamedTuple):
    """One convolution of a chain: channels in and out, kernel, stride, groups."""

    inside: int
    outside: int
    kernel: int
    stride: int = 1
    groups: int = 1


class Convolutional(nn.Module):
    """Convolutions with norms and activations between them; a way around the last; pooling and a classifier."""

    def __init__(self, shapes: Sequence[Convolution], style: int) -> None:
        super().__init__()
        act = (nn.ReLU, nn.SiLU, nn.GELU, nn.Hardswish)[style % 4]
        layers: list[nn.Module] = []
        for i, (inside, outside, kernel, stride, groups) in enumerate(shapes):
            bias = (i + style) % 3 == 0
            layers.append(nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=bias))
            layers.append(nn.BatchNorm2d(outside) if style % 3 else nn.GroupNorm(4, outside))
            layers.append(act())
        channels = shapes[-1].outside
        self.body, self.act = nn.Sequential(*layers), act()
        self.around = nn.Conv2d(channels, channels, 3, padding=1)
        self.up = nn.ConvTranspose2d(channels, channels // 2, 2, stride=2) if style % 4 == 1 else None
        self.head = nn.Linear(channels // 2 if self.up is not None else channels, 10)
        self.style = style

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[batch, channels, side, side] -> [batch, 10]."""
        x = self.body(images)
        x = self.act(x + self.around(x))
        if self.up is not None:
            x = self.up(x)
            x = torch.cat((x, -x), 1)[:, : self.head.in_features]
        if self.style % 3 == 1 and x.shape[-1] > 4:
            x = F.max_pool2d(x, 3, 2, 1)
        if self.style % 3 == 2 and x.shape[-1] > 4:
            x = F.avg_pool2d(x, 2)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1) if self.style % 2 else x.mean((-1, -2))
        result: torch.Tensor = self.head(x)
        return result


def convolutions(seed: int, count: int = 20) -> list[Chain]:
    """Images of 4 to 128 pixels a side, 3 to 1,024 channels; some convolutions in groups, some depthwise."""
    sizes, chains = Sizes(seed), []
    for i, pixels in enumerate(sizes.spread(32, 20_000, count)):
        batch = sizes.one(1, 2, 4, 8)
        side = max(4, 4 * round(math.sqrt(pixels / batch) / 4))
        # No convolution of 3 x 3 has more than 0.3 GFLOP: several sizes tell more than a large one.
        most = min(1024, max(16, math.sqrt(0.3e9 / (18 * batch * side * side))))
        a, b, c = (sizes(8, int(most), 8) for _ in range(3))
        first = Convolution(3, a, sizes.one(3, 5, 7), 1) if i % 4 == 0 else Convolution(a, a, 1)
        groups = (1, b, 4)[i % 3]
        shapes = [
            first,
            Convolution(a, b, 1),
            Convolution(b, b, sizes.one(3, 5, 7) if groups == b else 3, sizes.one(1, 1, 2), groups),
            Convolution(b, c, sizes.one(1, 3)),
        ]
        chains.append(Chain(Convolutional(shapes, i), (torch.randn(batch, first.inside, side, side),)))
    return chains


class Depthwise(nn.Module):
    """Two convolutions of each channel by itself; between them, each pixel by itself, in either order of the memory."""

    def __init__(self, channels: int, kernel: int, channels_last: bool) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels) for _ in range(2)
        )
        self.norm = nn.LayerNorm(channels) if channels_last else nn.BatchNorm2d(channels)
        self.mix: nn.Module = nn.Linear(channels, channels) if channels_last else nn.Conv2d(channels, channels, 1)
        self.channels_last = channels_last

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[batch, channels, side, side] -> the same."""
        x = self.first(images)
        x = x.permute(0, 2, 3, 1) if self.channels_last else x
        x = F.gelu(self.mix(self.norm(x)))
        result: torch.Tensor = self.second(x.permute(0, 3, 1, 2) if self.channels_last else x)
        return result


def depthwise(seed: int, count: int = 28) -> list[Chain]:
    """Images of 2 to 64 pixels a side, 16 to 1,024 channels, kernels of 3 to 7."""
    sizes, chains = Sizes(seed), []
    for i, side in enumerate(sizes.spread(2, 64, count)):
        batch, kernel = sizes.one(1, 2, 4, 8), sizes.one(3, 5, 7)
        channels = sizes(16, int(min(1024, max(32, 0.03e9 / (2 * batch * side * side * kernel**2)))), 16)
        module = Depthwise(channels, kernel, channels_last=i % 2 == 0)
        chains.append(Chain(module, (torch.randn(batch, channels, side, side, requires_grad=True),)))
    return chains


def small_images(seed: int, count: int = 24) -> list[Chain]:
    """Images of 2 to 16 pixels a side, 64 to 2,048 channels: weights are most of what is read."""
    sizes, chains = Sizes(seed), []
    for side in sizes.spread(2, 16, count):
        batch = sizes.one(1, 2, 4)
        outer = sizes(64, 2048, 32)
        # As in `convolutions`: no more than 0.3 GFLOP each.
        inner = sizes(32, int(min(768, math.sqrt(0.3e9 / (18 * batch * side * side)))), 32)
        layers = [
            nn.Conv2d(outer, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, sizes.one(1, 2), 1, bias=False),
            nn.Conv2d(inner, outer, 1, sizes.one(1, 1, 2), bias=False),
        ]
        chains.append(Chain(nn.Sequential(*layers), (torch.randn(batch, outer, side, side, requires_grad=True),)))
    return chains
