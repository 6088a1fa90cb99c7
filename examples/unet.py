"""A U-Net with skip connections (Ronneberger et al. 2015), of our own.

torchplace run examples/unet.py:build --devices 3 --training
"""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional as F

import torchplace as tp


class Block(nn.Sequential):
    """Two convolutions that keep the size, each normalized."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(
            nn.Conv2d(inside, outside, 3, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
            nn.Conv2d(outside, outside, 3, padding=1, bias=False),
            nn.GroupNorm(4, outside),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """Halves the image and doubles the channels level by level, and back: each level also sees its own way down."""

    def __init__(self, channels: int = 3, classes: int = 4, width: int = 16, levels: int = 3) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(levels + 1)]
        self.stem = Block(channels, width)
        self.down = nn.ModuleList(Block(a, b) for a, b in itertools.pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.join = nn.ModuleList(Block(2 * w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[batch, channels, height, width] -> [batch, classes, height, width]."""
        x, skips = self.stem(images), []
        for block in self.down:
            skips.append(x)
            x = block(F.max_pool2d(x, 2))
        for grow, block in zip(self.up, self.join, strict=True):
            x = block(torch.cat([skips.pop(), grow(x)], dim=1))
        classes: torch.Tensor = self.head(x)
        return classes


def build() -> tuple[UNet, tuple[torch.Tensor]]:
    """Three levels from width 16; a batch of 2 images of 64 x 64 pixels."""
    torch.manual_seed(0)
    return UNet(), (torch.randn(2, 3, 64, 64),)


if __name__ == "__main__":
    model, args = build()
    print(tp.plan(model, args, topology="local:3", training=True))
