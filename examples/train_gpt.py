"""Train a small GPT on characters, pipelined: on this machine's devices, or on the ranks that torchrun starts.

    python examples/train_gpt.py
    torchrun --nproc-per-node 2 examples/train_gpt.py

Both print the same losses. The text is that of Python's own licence and topics, which every Python has, so nothing is
downloaded. With --folder, checkpoints are written, and a run that was stopped goes on from the last of them.
"""

from __future__ import annotations

import argparse
import os
import pydoc_data.topics
from itertools import count

import torch
import torch.nn.functional as F  # as everybody calls it
from torch import nn

import torchplace as tp


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind a LayerNorm and beside a skip."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, length, width] -> the same."""
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """A language model of characters whose output layer is its embedding."""

    def __init__(self, vocabulary: int, layers: int = 8, width: int = 192, length: int = 128, heads: int = 6) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.head.weight = self.embed.weight  # tied: it may live on another device than one of its uses

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[batch, length] of characters -> [batch, length, vocabulary] of logits for the next."""
        x = self.embed(tokens) + self.position.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def loss_fn(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of all characters."""
    return F.cross_entropy(logits.flatten(0, 1), target.flatten())


class Text:
    """The text as numbers, and batches of pieces of it; batch i is the same on every rank and in every run."""

    def __init__(self) -> None:
        text = "\n".join(topic for _, topic in sorted(pydoc_data.topics.topics.items()))
        self.alphabet = sorted(set(text))
        number = {character: i for i, character in enumerate(self.alphabet)}
        self.tokens = torch.tensor([number[character] for character in text])

    def batch(self, i: int, size: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and, one character further, targets: [size, length] each."""
        starts = torch.randint(len(self.tokens) - length - 1, (size,), generator=torch.Generator().manual_seed(i))
        rows = torch.stack([self.tokens[s : s + length + 1] for s in starts.tolist()])
        return rows[:, :-1], rows[:, 1:]


def main() -> None:
    """Train, and print the loss now and then."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--microbatches", type=int, default=8)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--schedule", default="auto")
    parser.add_argument("--devices", type=int, default=2, help="of this machine; under torchrun each rank is one")
    parser.add_argument("--folder", help="write checkpoints there, and go on from the last")
    parser.add_argument("--every", type=int, default=10, help="steps between two checkpoints")
    parser.add_argument("--print-every", type=int, default=5, help="steps between two lines")
    given = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)  # each device has one core
    text = Text()
    model = GPT(len(text.alphabet), given.layers, given.width)
    topology = os.environ.get("TOPOLOGY") or (
        None if "RANK" in os.environ else tp.Topology.local(given.devices, threads=1)
    )
    step = tp.compile(
        model, loss_fn=loss_fn, microbatches=given.microbatches, schedule=given.schedule, topology=topology
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    saver = tp.Checkpointer(step, optimizer, every=given.every, folder=given.folder) if given.folder else None
    for i in count(saver.load() if saver else 0):
        if i >= given.steps:
            break
        loss = step(*text.batch(i, 2 * given.microbatches, 128))
        tp.clip_grad_norm_(step, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if saver:
            saver.done(i + 1)
        if os.environ.get("RANK", "0") == "0" and (i % given.print_every == 0 or i + 1 == given.steps):
            print(f"step {i:4d}  loss {loss.item():.9g}", flush=True)


if __name__ == "__main__":
    main()
