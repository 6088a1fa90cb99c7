"""The small layers of the calibration set: what stands between the products of a model, on tensors of many sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from torchplace.runtime.calibration_models import Chain, Sizes

Layer = Callable[[torch.Tensor], torch.Tensor]
"""From [rows, columns] to the same, differentiable."""


def _rows(x: torch.Tensor) -> torch.Tensor:
    """Indices of all rows, backwards."""
    return torch.arange(x.shape[0] - 1, -1, -1)


def _heads(x: torch.Tensor) -> torch.Tensor:
    """Two axes exchanged, as before and after attention."""
    return x.view(x.shape[0], 4, -1).transpose(0, 1).contiguous().transpose(0, 1).reshape(x.shape)


def _masked(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0, x, 0.5 * x)


def _stretch(x: torch.Tensor) -> torch.Tensor:
    return x[:, None].expand(x.shape[0], 2, x.shape[1]).reshape(-1, x.shape[1])[: x.shape[0]]


ELEMENTWISE: tuple[Layer, ...] = (
    F.relu,
    F.gelu,
    F.silu,
    torch.sigmoid,
    torch.tanh,
    F.elu,
    F.leaky_relu,
    F.hardswish,
    F.softplus,
    lambda x: F.gelu(x, approximate="tanh"),
    lambda x: torch.exp(-x.abs()),
    lambda x: torch.log(x * x + 1.0),
    lambda x: torch.sqrt(x * x + 1.0),
    lambda x: torch.rsqrt(x.pow(2) + 1.0),
    lambda x: torch.sin(x) + torch.cos(x),
    lambda x: torch.erf(x),
    lambda x: torch.pow(x, 3.0),
    lambda x: 1.0 / (2.0 + torch.tanh(x)),
    lambda x: torch.clamp(x, -1.0, 1.0),
    lambda x: torch.neg(x) - 0.5,
    lambda x: torch.maximum(x, -x) + torch.minimum(x, x * 0.5),
    lambda x: x / (1.0 + x.abs()),
    lambda x: F.dropout(x, 0.1),
    lambda x: x.double().mul(0.5).float(),
    _masked,
    lambda x: x.masked_fill(x < -1.0, -1.0),
)
SHAPED: tuple[Layer, ...] = (
    lambda x: torch.softmax(x, -1),
    lambda x: torch.log_softmax(x, -1),
    lambda x: F.layer_norm(x, x.shape[-1:]),
    lambda x: F.normalize(x, dim=-1),
    lambda x: x - x.mean(-1, keepdim=True),
    lambda x: x * x.sum(0, keepdim=True),
    lambda x: x + x.sum(-1, keepdim=True),
    lambda x: x / torch.sqrt(x.var(-1, keepdim=True, correction=0) + 1e-5),
    lambda x: x - x.amax(-1, keepdim=True),
    lambda x: x + torch.logsumexp(x, -1, keepdim=True),
    lambda x: torch.cumsum(x, -1),
    lambda x: torch.cat((x[:, x.shape[1] // 2 :], -x[:, : x.shape[1] // 2]), -1),
    lambda x: torch.cat((x, x), 0)[: x.shape[0]],
    lambda x: torch.stack(x.chunk(4, -1), 1).flatten(1),
    lambda x: x.t().contiguous().t() + x,
    lambda x: x.t().reshape(x.shape[0], x.shape[1]),
    _heads,
    _stretch,
    lambda x: x[_rows(x)],
    lambda x: x.index_select(0, _rows(x)),
    lambda x: torch.gather(x, 1, torch.argsort(x.detach()[:1].expand_as(x), 1)),
    lambda x: F.pad(x, (1, 1))[:, 2:],
    lambda x: torch.roll(x, 1, 0) * x.clone(),
    lambda x: torch.scatter_add(x, 0, _rows(x)[:, None].expand_as(x), x),
    lambda x: x * F.one_hot(x.detach().argmax(-1), x.shape[1]).float(),
    lambda x: x * x.detach().topk(2, -1).values[:, 1:],
    lambda x: x + F.pad(x.unfold(1, 2, 1).mean(-1), (0, 1)),
    lambda x: torch.tril(x) + x[:1] * x[:, :1],
)


class Layers(nn.Module):
    """Layers one after the other."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.layers = list(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, columns] -> the same."""
        x = x * 0.5
        for layer in self.layers:
            x = layer(x)
        return x


def pointwise(seed: int, count: int = 12, most: int = 1_000_000) -> list[Chain]:
    """Half of all layers in random order, on tensors of 50 to `most` elements."""
    sizes, chains = Sizes(seed), []
    for elements in sorted(sizes.spread(50, most, count)):
        columns = 4 * max(2, min(sizes(8, 1200), elements // 2) // 4)
        rows = max(2, elements // columns)
        layers = list(ELEMENTWISE) + list(SHAPED)
        sizes.random.shuffle(layers)
        chains.append(Chain(Layers(layers[: len(layers) // 2]), (torch.randn(rows, columns, requires_grad=True),)))
    return chains


class Losses(nn.Module):
    """Scores compared with targets in all usual ways."""

    def forward(self, scores: torch.Tensor, targets: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """[rows, classes], the same, [rows] -> one number."""
        total = F.mse_loss(scores, targets) + F.l1_loss(scores, targets) + F.smooth_l1_loss(scores, targets)
        total = total + F.binary_cross_entropy_with_logits(scores, torch.sigmoid(targets))
        total = total + F.kl_div(torch.log_softmax(scores, -1), torch.softmax(targets, -1), reduction="batchmean")
        return total + F.cross_entropy(scores, classes) + F.nll_loss(scores, classes)


def losses(seed: int, count: int = 4) -> list[Chain]:
    """2 to 1,000 rows of 4 to 2,000 classes."""
    sizes, chains = Sizes(seed), []
    for rows in sizes.spread(2, 1000, count):
        shape = rows, sizes(4, 2000)
        made = torch.randn(shape, requires_grad=True), torch.randn(shape), torch.randint(shape[1], (rows,))
        chains.append(Chain(Losses(), made))
    return chains


class Masks(nn.Module):
    """What models do to make masks and positions: on integers and truth values."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """[rows, length, width], [rows] -> [rows, length, width]."""
        length = x.shape[1]
        there = torch.arange(length)[None] < lengths[:, None]
        causal = torch.arange(length)[:, None] >= torch.arange(length)[None]
        both = causal[None] & there[:, None]
        weights = torch.where(both, 0.0, -1e9).softmax(-1)
        places = (torch.cumsum(there.long(), 1) - 1).clamp(min=0)
        far = (torch.arange(length)[:, None] - torch.arange(length)[None]).abs()
        near = torch.where(far < 8, far, 8 + (far.float() / 8).log1p().long()).clamp(max=15)
        mixed = weights.masked_fill(~both, 0.0) @ x + (1.0 - there[..., None].to(x.dtype)) * -1.0
        return mixed + places[..., None].float() * 1e-3 + near.float().mean()


def masks(seed: int, count: int = 4) -> list[Chain]:
    """Lengths of 8 to 256."""
    sizes, chains = Sizes(seed), []
    for length in sizes.spread(8, 256, count):
        rows = sizes(1, 8)
        x = torch.randn(rows, length, sizes(8, 256, 8), requires_grad=True)
        chains.append(Chain(Masks(), (x, torch.randint(1, length + 1, (rows,)))))
    return chains


class Sequence1d(nn.Module):
    """Convolutions along time, pooling and interpolation."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv1d(inside, outside, 3, padding=1), nn.BatchNorm1d(outside)
        self.second = nn.Conv1d(outside, outside, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, inside, length] -> [batch, outside, length]."""
        x = F.avg_pool1d(F.gelu(self.norm(self.first(x))), 2)
        return F.interpolate(F.gelu(self.second(x)), scale_factor=2.0, mode="linear")


class Images(nn.Module):
    """Layers on images that are no convolutions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, channels, side, side] -> the same."""
        x = F.interpolate(F.max_pool2d(x, 2), scale_factor=2.0, mode="nearest") + x
        x = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear") * x
        x = F.group_norm(x, 4) * F.group_norm(x, 2)
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, x.shape[-1:]).permute(0, 3, 1, 2)
        return F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2) * x.mean((-1, -2), keepdim=True)


def signals(seed: int, count: int = 4) -> list[Chain]:
    """Sequences of 16 to 1,000 steps; images of 8 to 64 pixels a side."""
    sizes, chains = Sizes(seed), []
    for length, side in zip(sizes.spread(16, 1000, count, 4), sizes.spread(8, 64, count, 4), strict=True):
        batch, inside, outside = sizes.one(1, 2, 4), sizes(8, 128, 8), sizes(8, 256, 8)
        sequence: Any = torch.randn(batch, inside, length, requires_grad=True)
        chains.append(Chain(Sequence1d(inside, outside), (sequence,)))
        channels = sizes(8, max(8, min(256, 500_000 // (batch * side * side))), 8)
        chains.append(Chain(Images(), (torch.randn(batch, channels, side, side, requires_grad=True),)))
    return chains
