"""A small Llama with grouped-query attention (8 query heads share 2 key-value heads), random weights.

torchplace compare examples/llama.py:build --topology dgx1-v100 --training
torchplace run examples/llama.py:build --devices 2 --training
"""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import torchplace as tp


def build() -> tuple[LlamaForCausalLM, tuple[torch.Tensor]]:
    """Six layers of width 256, 4,096 tokens; a batch of 2 x 64 tokens."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
        use_cache=False,
    )
    return LlamaForCausalLM(config), (torch.randint(config.vocab_size, (2, 64)),)


if __name__ == "__main__":
    model, args = build()
    print(tp.plan(model, args, topology="dgx1-v100", training=True))
