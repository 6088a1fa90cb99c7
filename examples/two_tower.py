"""Two towers, users and items, that meet only at the end: their branches can run at the same time.

torchplace run examples/two_tower.py:build --devices 2 --training --solver heft
torchplace compare examples/two_tower.py:build_four --training --topologies big-sur-single-root,big-sur-dual-root
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

import torchplace as tp


class Tower(nn.Module):
    """Looks up the features of each user (or item), and makes one vector of them."""

    def __init__(self, vocabulary: int, width: int, blocks: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        layers = [nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU()) for _ in range(blocks)]
        self.up = nn.ModuleList(layers)
        self.down = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(blocks))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[rows, features] of indices -> [rows, width], of length one."""
        x = self.table(features).mean(dim=1)
        for up, down in zip(self.up, self.down, strict=True):
            x = x + down(up(x))
        return F.normalize(x, dim=-1)


class TwoTower(nn.Module):
    """Scores every user against every item of the batch."""

    def __init__(self, vocabulary: int = 4096, width: int = 256, blocks: int = 4) -> None:
        super().__init__()
        self.users, self.items = Tower(vocabulary, width, blocks), Tower(vocabulary, width, blocks)
        self.temperature = nn.Parameter(torch.tensor(0.1))

    def forward(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Indices, [rows, features] each -> scores [rows, rows]."""
        scores: torch.Tensor = self.users(users) @ self.items(items).T / self.temperature
        return scores


class ManyTower(nn.Module):
    """A tower for each sort of feature, and a last layer on all of their vectors."""

    def __init__(self, towers: int, vocabulary: int = 4096, width: int = 256, blocks: int = 2) -> None:
        super().__init__()
        self.towers = nn.ModuleList(Tower(vocabulary, width, blocks) for _ in range(towers))
        self.top = nn.Linear(towers * width, 1)

    def forward(self, *features: torch.Tensor) -> torch.Tensor:
        """Indices, [rows, features] for each tower -> [rows, 1]."""
        vectors = [tower(x) for tower, x in zip(self.towers, features, strict=True)]
        scores: torch.Tensor = self.top(torch.cat(vectors, dim=-1))
        return scores


def build() -> tuple[TwoTower, tuple[torch.Tensor, torch.Tensor]]:
    """Width 256, 4 blocks a tower; 256 rows of 16 features."""
    torch.manual_seed(0)
    return TwoTower(), (torch.randint(4096, (256, 16)), torch.randint(4096, (256, 16)))


def build_four() -> tuple[ManyTower, tuple[torch.Tensor, ...]]:
    """Four towers of width 256; 16,384 rows of 16 features, a batch as recommenders are trained with."""
    torch.manual_seed(0)
    return ManyTower(4), tuple(torch.randint(4096, (16_384, 16)) for _ in range(4))


if __name__ == "__main__":
    model, args = build()
    print(tp.plan(model, args, topology="local:2", solver="heft", training=True))
