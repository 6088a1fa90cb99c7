"""Hugging Face's GPT-2, unmodified, with random weights: nothing is downloaded.

torchplace compare examples/gpt2.py:build --topology big-sur --training
torchplace run examples/gpt2.py:build_small --devices 2 --training
"""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import torchplace as tp

Built = tuple[GPT2LMHeadModel, tuple[torch.Tensor]]


def build() -> Built:
    """All 12 layers of GPT-2, but narrow: width 256, 8,192 tokens; a batch of 2 x 128 tokens."""
    return _model(layers=12, width=256, vocabulary=8192, tokens=(2, 128))


def build_small() -> Built:
    """Two layers of width 64: small enough for a first try."""
    return _model(layers=2, width=64, vocabulary=512, tokens=(2, 32))


def _model(layers: int, width: int, vocabulary: int, tokens: tuple[int, int]) -> Built:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=tokens[1],
        n_embd=width,
        n_layer=layers,
        n_head=width // 32,
        # Without dropout, so that training can be compared with eager number by number.
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    return GPT2LMHeadModel(config), (torch.randint(vocabulary, tokens),)


if __name__ == "__main__":
    model, args = build()
    print(tp.plan(model, args, topology="big-sur", training=True))
