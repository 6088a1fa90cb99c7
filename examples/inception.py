"""Inception-v3 (Szegedy et al. 2016, "Rethinking the Inception Architecture"), of our own: blocks of parallel branches.

torchplace compare examples/inception.py:build --topology dgx1-v100 --training
torchplace run examples/inception.py:build --devices 2 --solver heft
"""

from __future__ import annotations

import torch
from torch import nn

import torchplace as tp

Kernel = tuple[int, int]


class Unit(nn.Sequential):
    """A convolution without a bias, normalized. Starts as He et al. (2015) say: untrained, signals keep their size."""

    def __init__(self, inside: int, outside: int, kernel: int | Kernel = 1, stride: int = 1, same: bool = True) -> None:
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sides[0] // 2, sides[1] // 2) if same else (0, 0)
        super().__init__(
            nn.Conv2d(inside, outside, sides, stride, padding, bias=False),
            nn.BatchNorm2d(outside, eps=1e-3),
            nn.ReLU(inplace=True),
        )
        nn.init.kaiming_normal_(self[0].weight, nonlinearity="relu")


class Branches(nn.Module):
    """Gives its input to every branch, and joins the channels that they make."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, channels, height, width] -> the same with the branches' channels."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def chain(inside: int, *steps: tuple[int, int | Kernel]) -> nn.Sequential:
    """Units one after the other, from (channels, kernel)s; the size of the image stays."""
    units = []
    for outside, kernel in steps:
        units.append(Unit(inside, outside, kernel))
        inside = outside
    return nn.Sequential(*units)


def pooled(inside: int, outside: int) -> nn.Sequential:
    """The mean of each neighbourhood, and what a 1 x 1 convolution makes of it."""
    return nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), Unit(inside, outside))


def fine(inside: int, after_pool: int) -> Branches:
    """Figure 5 of the paper: 35 x 35 pixels."""
    return Branches(
        Unit(inside, 64),
        chain(inside, (48, 1), (64, 5)),
        chain(inside, (64, 1), (96, 3), (96, 3)),
        pooled(inside, after_pool),
    )


def factored(inside: int, middle: int) -> Branches:
    """Figure 6: 17 x 17 pixels, 7 x 7 convolutions taken apart into 1 x 7 and 7 x 1."""
    wide, high = (1, 7), (7, 1)
    return Branches(
        Unit(inside, 192),
        chain(inside, (middle, 1), (middle, wide), (192, high)),
        chain(inside, (middle, 1), (middle, high), (middle, wide), (middle, high), (192, wide)),
        pooled(inside, 192),
    )


def coarse(inside: int) -> Branches:
    """Figure 7: 8 x 8 pixels, branches that branch again."""

    def both() -> Branches:
        return Branches(Unit(384, 384, (1, 3)), Unit(384, 384, (3, 1)))

    return Branches(
        Unit(inside, 320),
        nn.Sequential(Unit(inside, 384), both()),
        nn.Sequential(chain(inside, (448, 1), (384, 3)), both()),
        pooled(inside, 192),
    )


def halved(inside: int, one: nn.Sequential, one_out: int, other: nn.Sequential, other_out: int) -> Branches:
    """Figure 10: half the size, by strided convolutions beside a pooling; each follows a chain (maybe an empty one)."""

    def end(before: nn.Sequential, outside: int) -> nn.Sequential:
        channels = before[-1][0].out_channels if len(before) else inside
        return nn.Sequential(*before, Unit(channels, outside, 3, 2, same=False))

    return Branches(end(one, one_out), end(other, other_out), nn.MaxPool2d(3, stride=2))


def stem(channels: int) -> nn.Sequential:
    """299 x 299 pixels -> 35 x 35."""
    return nn.Sequential(
        Unit(channels, 32, 3, 2, same=False),
        Unit(32, 32, 3, same=False),
        Unit(32, 64, 3),
        nn.MaxPool2d(3, stride=2),
        Unit(64, 80),
        Unit(80, 192, 3, same=False),
        nn.MaxPool2d(3, stride=2),
    )


class Inception(nn.Module):
    """Table 1 of the paper, with the widths that everybody uses; without its auxiliary classifier and dropout."""

    def __init__(self, channels: int = 3, classes: int = 1000) -> None:
        super().__init__()
        long, longer = chain(288, (64, 1), (96, 3)), chain(768, (192, 1), (192, (1, 7)), (192, (7, 1)))
        self.stem = stem(channels)
        self.blocks = nn.Sequential(
            *(fine(inside, after_pool) for inside, after_pool in ((192, 32), (256, 64), (288, 64))),
            halved(288, nn.Sequential(), 384, long, 96),
            *(factored(768, middle) for middle in (128, 160, 160, 192)),
            halved(768, chain(768, (192, 1)), 320, longer, 192),
            coarse(1280),
            coarse(2048),
        )
        self.head = nn.Linear(2048, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[batch, channels, height, width], 75 x 75 pixels or more -> [batch, classes]."""
        x = self.blocks(self.stem(images))
        classes: torch.Tensor = self.head(x.mean(dim=(2, 3)))
        return classes


def build() -> tuple[Inception, tuple[torch.Tensor]]:
    """A batch of 2 images of 299 x 299 pixels."""
    torch.manual_seed(0)
    return Inception(), (torch.randn(2, 3, 299, 299),)


if __name__ == "__main__":
    model, args = build()
    print(tp.plan(model, args, topology="dgx1-v100", training=True))
