"""The blocks of deep models that stand for no other: this machine is calibrated with them, its caches cold."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from torchplace.runtime.calibration_models import Attention, Gated


class Block(nn.Module):
    """Attention, and a gate or a perceptron."""

    def __init__(self, width: int, style: str) -> None:
        super().__init__()
        self.before, self.attention = nn.LayerNorm(width), Attention(width, width // 32, style)
        self.between = nn.LayerNorm(width)
        layers = nn.Linear(width, 3 * width), nn.GELU(), nn.Dropout(0.0), nn.Linear(3 * width, width)
        self.inside = Gated(width, 2 * width) if style == "rotary" else nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, length, width] -> the same."""
        x = x + self.attention(self.before(x))
        inside: torch.Tensor = self.inside(self.between(x))
        return x + inside


class Bottleneck(nn.Module):
    """Three convolutions, each with its norm, and what goes around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width // 2
        shapes = (width, inner, 1), (inner, inner, 3), (inner, width, 1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(b))
            for a, b, kernel in shapes
        )
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, width, height, width] -> the same."""
        y = x
        for layer in self.layers[:-1]:
            y = self.act(layer(y))
        result: torch.Tensor = self.act(x + self.layers[-1](y))
        return result


def in_a_row(layers: Iterable[nn.Module]) -> nn.Module:
    """One behind the other."""
    return nn.Sequential(*layers)
