"""The synthetic models whose ops `fitted` is calibrated on: chains of layers as in real models, of many sizes.

No chain copies a model, and all sizes are drawn by a seeded generator: log-uniformly, for times span six decades. A
module runs dozens of chains one after the other, for capturing one large module costs less than many small ones.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
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


def transformers(seed: int, count: int = 8) -> list[Chain]:
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


def attentions(seed: int, count: int = 24) -> list[Chain]:
    """Attention alone, on 8 to 500 tokens."""
    sizes, chains = Sizes(seed), []
    for i, length in enumerate(sizes.spread(8, 500, count)):
        heads, size, batch = sizes.one(1, 2, 4, 8), sizes.one(8, 16, 32, 64), sizes.one(1, 2, 4)
        module = Attention(heads * size, heads, ("causal", "plain", "plain", "explicit")[i % 4])
        chains.append(Chain(module, (torch.randn(batch, length, heads * size, requires_grad=True),)))
    return chains


def dense(seed: int, count: int = 30) -> list[Chain]:
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
