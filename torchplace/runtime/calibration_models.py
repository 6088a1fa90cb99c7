"""The synthetic models whose ops `fitted` is calibrated on: chains of layers as in real models, of many sizes.

No chain copies a model, and all sizes are drawn by a seeded generator: log-uniformly, for times span six decades. A
module runs dozens of chains one after the other, for capturing one large module costs less than many small ones.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

Tensors = tuple[torch.Tensor, ...]


class Chain(NamedTuple):
    """One model of a bundle: the module, and the inputs of its call."""

    module: nn.Module
    inputs: Tensors


class Bundle(nn.Module):
    """Runs chains one after the other; the result is the sum of what they give, so that all have gradients.

    Args:
        chains: in this order; they share nothing.
    """

    def __init__(self, chains: Sequence[Chain]) -> None:
        super().__init__()
        self.chains = nn.ModuleList(chain.module for chain in chains)
        self.counts = [len(chain.inputs) for chain in chains]

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The inputs of all chains, one after the other -> one number."""
        total, start = torch.zeros(()), 0
        for chain, count in zip(self.chains, self.counts, strict=True):
            result = chain(*inputs[start : start + count])
            total = total + (result if result.dim() == 0 else result.float().mean())
            start += count
        return total


class Sizes:
    """Draws sizes: the same ones every time for a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def __call__(self, low: int, high: int, multiple: int = 1) -> int:
        """A whole number, log-uniform in [low, high], rounded to a multiple."""
        drawn = math.exp(self.random.uniform(math.log(low), math.log(high)))
        return max(1, round(drawn / multiple)) * multiple

    def one(self, *choices: int) -> int:
        """One of the choices."""
        return self.random.choice(choices)

    def spread(self, low: int, high: int, count: int, multiple: int = 1) -> list[int]:
        """`count` sizes that cover [low, high] evenly on a log scale, in random order."""
        step = math.log(high / low) / count
        drawn = [low * math.exp(step * (i + self.random.random())) for i in range(count)]
        self.random.shuffle(drawn)
        return [max(1, round(d / multiple)) * multiple for d in drawn]


class Attention(nn.Module):
    """Self-attention: torch's fused one, or written out with a mask; with or without biases, rotations, shared keys."""

    def __init__(self, width: int, heads: int, style: str, shared: int = 1) -> None:
        super().__init__()
        self.heads, self.style, self.shared = heads, style, shared
        keys = width // shared
        bias = style != "rotary"
        self.query, self.out = nn.Linear(width, width, bias), nn.Linear(width, width, bias)
        self.key, self.value = nn.Linear(width, keys, bias), nn.Linear(width, keys, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, length, width] -> the same."""
        batch, length, width = x.shape
        size = width // self.heads
        q, k, v = (f(x).view(batch, length, -1, size).transpose(1, 2) for f in (self.query, self.key, self.value))
        if self.style == "rotary":
            q, k = _rotate(q), _rotate(k)
        if self.shared > 1:
            k, v = (_repeat(t, self.shared) for t in (k, v))
        if self.style == "explicit":
            mask = torch.ones(length, length, dtype=torch.bool).tril()
            scores = (q @ k.transpose(-1, -2)) / math.sqrt(size)
            scores = scores + torch.where(mask, 0.0, torch.finfo(scores.dtype).min)
            mixed = torch.softmax(scores, -1) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.style == "causal")
        result: torch.Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return result


def _rotate(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions (Su et al. 2021) on [batch, heads, length, size]."""
    length, size = x.shape[-2:]
    angles = torch.arange(length).float()[:, None] / torch.pow(torch.tensor(1e4), torch.arange(size).float() / size)
    cos, sin = angles.cos(), angles.sin()
    half = torch.cat((-x[..., size // 2 :], x[..., : size // 2]), -1)
    return x * cos[None, None] + half * sin[None, None]


def _repeat(x: torch.Tensor, times: int) -> torch.Tensor:
    batch, heads, length, size = x.shape
    return x[:, :, None].expand(batch, heads, times, length, size).reshape(batch, heads * times, length, size)


class RootMeanSquare(nn.Module):
    """Zhang and Sennrich's norm (2019), written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., width] -> the same."""
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Gated(nn.Module):
    """Two products, one of them a gate, and a third."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., width] -> the same."""
        result: torch.Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return result


class TanhGelu(nn.Module):
    """The approximation of GELU by tanh, written out op by op."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


class Transformer(nn.Module):
    """Token and position embeddings, one block, and a classifier over the vocabulary with its loss."""

    def __init__(
        self, width: int, heads: int, vocabulary: int, length: int, style: str, shared: int, mult: int
    ) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        norm = RootMeanSquare if style == "rotary" else nn.LayerNorm
        self.norms = nn.ModuleList(norm(width) for _ in range(3))
        self.attention = Attention(width, heads, style, shared)
        inner = mult * width
        act = TanhGelu() if style == "causal" else nn.GELU()
        self.mlp = (
            Gated(width, inner)
            if style == "rotary"
            else nn.Sequential(nn.Linear(width, inner), act, nn.Linear(inner, width))
        )
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """[batch, length] -> the loss of predicting the words themselves."""
        x = self.tokens(words) + self.positions(torch.arange(words.shape[1]))
        x = x + self.attention(self.norms[0](x))
        x = x + self.mlp(self.norms[1](x))
        scores = self.head(self.norms[2](x))
        return F.cross_entropy(scores.view(-1, scores.shape[-1]), words.reshape(-1))


def transformers(seed: int, count: int = 10) -> list[Chain]:
    """Blocks of widths 32 to 640, on 8 to 512 tokens."""
    sizes, chains = Sizes(seed), []
    styles = ("causal", "rotary", "explicit", "plain")
    rows, widths = sizes.spread(16, 700, count), sizes.spread(32, 640, count, 32)
    for i, (tokens, width) in enumerate(zip(rows, widths, strict=True)):
        batch = sizes.one(1, 2, 4, 8)
        length = max(8, tokens // batch)
        heads = max(1, width // sizes.one(16, 32, 64))
        shared = 2 if styles[i % 4] == "rotary" and heads % 2 == 0 else 1
        while width % heads or (width // heads) % 2:
            heads -= 1
        shared = shared if heads % shared == 0 else 1
        vocabulary = sizes(64, 8000, 32)
        module = Transformer(width, heads, vocabulary, length, styles[i % 4], shared, sizes.one(2, 3, 4))
        chains.append(Chain(module, (torch.randint(vocabulary, (batch, length)),)))
    return chains


def dense(seed: int, count: int = 20) -> list[Chain]:
    """Two products of matrices with 1 to 1,000 rows, activations and norms between them."""
    sizes, chains = Sizes(seed), []
    activations = (nn.ReLU, nn.GELU, nn.Tanh, nn.SiLU, nn.Sigmoid, nn.LeakyReLU)
    for i, rows in enumerate(sizes.spread(2, 1000, count)):
        a, b, c = sizes(8, 1200, 8), sizes(8, 1200, 8), sizes(4, 1200, 4)
        layers = [
            nn.Linear(a, b, bias=i % 3 > 0),
            activations[i % 6](),
            nn.LayerNorm(b),
            nn.Linear(b, c, bias=i % 4 > 0),
        ]
        chains.append(Chain(nn.Sequential(*layers), (torch.randn(rows, a, requires_grad=True),)))
    return chains


class Residual(nn.Module):
    """Two or three convolutions with norms, and a way around them."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, groups: int, style: int) -> None:
        super().__init__()
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d if style % 2 == 0 else functools.partial(nn.GroupNorm, 4)
        act = (nn.ReLU, nn.SiLU, nn.GELU, nn.Hardswish)[style % 4]
        pad = kernel // 2
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 1, bias=False),
            norm(outside),
            act(),
            nn.Conv2d(outside, outside, kernel, stride, pad, groups=groups, bias=style % 3 == 0),
            norm(outside),
        )
        self.around = nn.Conv2d(inside, outside, 1, stride, bias=False)
        self.act = act()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, inside, height, width] -> [batch, outside, height / stride, width / stride]."""
        result: torch.Tensor = self.act(self.body(x) + self.around(x))
        return result


class Convolutional(nn.Module):
    """A stem from three channels, a residual block, a way up with a skip connection, pooling, a classifier."""

    def __init__(self, channels: int, outside: int, kernel: int, groups: int, style: int) -> None:
        super().__init__()
        first = sizes_of_stem[style % 3]
        self.stem = nn.Conv2d(3, channels, first, stride=1 if first == 3 else 2, padding=first // 2)
        self.block = Residual(channels, outside, kernel, 2 if style % 2 else 1, groups, style)
        self.plain = nn.Conv2d(outside, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.up = nn.ConvTranspose2d(channels, channels, 2, stride=2) if style % 2 else None
        self.head = nn.Linear(channels, 10)
        self.style = style

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[batch, 3, size, size] -> [batch, 10]."""
        x = self.stem(images)
        if self.style % 3 == 1:
            x = F.max_pool2d(x, 3, 2, 1)
        y = F.relu(self.norm(self.plain(self.block(x))))
        if self.up is not None:
            y = torch.cat([x, self.up(y)[..., : x.shape[-2], : x.shape[-1]]], 1)[:, : self.head.in_features]
        y = F.adaptive_avg_pool2d(y, 1) if self.style % 2 else F.avg_pool2d(y, 2)
        result: torch.Tensor = self.head(y.mean((-1, -2)))
        return result


sizes_of_stem = (3, 7, 5)


def convolutions(seed: int, count: int = 12) -> list[Chain]:
    """Images of 8 to 112 pixels, 8 to 512 channels; some of the convolutions in groups or depthwise."""
    sizes, chains = Sizes(seed), []
    for i, pixels in enumerate(sizes.spread(200, 30_000, count)):
        batch = sizes.one(1, 2, 4, 8)
        side = max(8, 4 * round(math.sqrt(pixels / batch) / 4))
        most = max(16, min(512, 400_000 // (batch * side * side // 8)))
        channels, outside = sizes(8, most, 8), sizes(8, most, 8)
        groups = (1, 1, outside, 4)[sizes.one(0, 1, 2, 3)]
        kernel = sizes.one(3, 3, 5, 7) if groups == outside else 3
        module = Convolutional(channels, outside, kernel, groups, i)
        chains.append(Chain(module, (torch.randn(batch, 3, side, side),)))
    return chains


class Recurrence(nn.Module):
    """Some steps of a cell, unrolled."""

    def __init__(self, kind: str, width: int, steps: int) -> None:
        super().__init__()
        self.cell = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}[kind](width, width)
        self.kind, self.steps = kind, steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, steps, width] -> the same."""
        state = torch.zeros(x.shape[0], x.shape[-1])
        memory, found = state, []
        for step in x.unbind(1):
            if self.kind == "lstm":
                state, memory = self.cell(step, (state, memory))
            else:
                state = self.cell(step, state)
            found.append(state)
        return torch.stack(found, 1)


def recurrences(seed: int, count: int = 9) -> list[Chain]:
    """Cells of widths 16 to 512 on 1 to 64 rows."""
    sizes, chains = Sizes(seed), []
    for i, width in enumerate(sizes.spread(16, 512, count, 8)):
        rows, steps = sizes(1, 64), 2
        module = Recurrence(("lstm", "gru", "rnn")[i % 3], width, steps)
        chains.append(Chain(module, (torch.randn(rows, steps, width, requires_grad=True),)))
    return chains
