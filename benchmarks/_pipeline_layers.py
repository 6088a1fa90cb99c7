"""Layers that make chains: of a GPT, and of a U-Net with what it skips."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

VOCABULARY, HEAD_WIDTH = 256, 64


class Embedding(nn.Module):
    """Of tokens and their places."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(length, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[rows, length] -> [rows, length, width]."""
        places: torch.Tensor = self.places(torch.arange(tokens.shape[1], device=tokens.device))
        embedded: torch.Tensor = self.tokens(tokens)
        return embedded + places


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD_WIDTH)
        self.mixed, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, length, width] -> the same."""
        rows, length, width = x.shape
        query, key, value = self.mixed(x).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        result: torch.Tensor = self.out(attended.transpose(1, 2).reshape(rows, length, width))
        return result


class Layer(nn.Module):
    """Attention and two linear layers, each behind a norm and beside what is added to it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width))
        wide = nn.Linear(width, 4 * width)
        self.linear = nn.Sequential(nn.LayerNorm(width), wide, nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, length, width] -> the same."""
        x = x + self.attention(x)
        result: torch.Tensor = x + self.linear(x)
        return result


class Down(nn.Module):
    """A level down of the U-Net, as a link of a chain: what is skipped goes along."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor, *skipped: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(x, *skipped) -> (half as large, *skipped, x)."""
        return self.block(F.max_pool2d(x, 2)), *skipped, x


class Up(nn.Module):
    """A level up of the U-Net, as a link of a chain."""

    def __init__(self, grow: nn.Module, block: nn.Module) -> None:
        super().__init__()
        self.grow, self.block = grow, block

    def forward(self, x: torch.Tensor, *skipped: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(x, *skipped) -> (twice as large, *skipped but the last)."""
        return self.block(torch.cat([skipped[-1], self.grow(x)], dim=1)), *skipped[:-1]
