"""Models of real architectures, random weights, of a size at which a step takes some 20 to 300 ms on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from torch import nn

from examples.two_tower import TwoTower
from examples.unet import UNet

Made = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
TOKENS = 2048


def tokens(rows: int, length: int) -> torch.Tensor:
    """[rows, length] of tokens."""
    return torch.randint(TOKENS, (rows, length), generator=torch.Generator().manual_seed(0))


def gpt2() -> Made:
    """6 layers of width 256; 2 x 96 tokens."""
    config = hf.GPT2Config(
        vocab_size=TOKENS, n_positions=96, n_embd=256, n_layer=6, n_head=8, embd_pdrop=0.0, attn_pdrop=0.0,
        resid_pdrop=0.0, bos_token_id=0, eos_token_id=1, use_cache=False,
    )  # fmt: skip
    return hf.GPT2LMHeadModel(config), (tokens(2, 96),), {}


def bert() -> Made:
    """4 layers of width 320; 2 x 64 tokens with a mask."""
    config = hf.BertConfig(
        vocab_size=TOKENS, hidden_size=320, num_hidden_layers=4, num_attention_heads=5, intermediate_size=1280,
        max_position_embeddings=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return hf.BertForMaskedLM(config), (tokens(2, 64),), {"attention_mask": torch.ones(2, 64, dtype=torch.long)}


def t5() -> Made:
    """3 + 3 layers of width 256; 2 x 64 tokens in, 2 x 32 out."""
    config = hf.T5Config(
        vocab_size=TOKENS, d_model=256, d_kv=32, d_ff=1024, num_layers=3, num_heads=8, dropout_rate=0.0,
        decoder_start_token_id=0, use_cache=False,
    )  # fmt: skip
    return hf.T5ForConditionalGeneration(config), (), {
        "input_ids": tokens(2, 64),
        "decoder_input_ids": tokens(2, 32),
    }  # fmt: skip


def llama() -> Made:
    """4 layers of width 256, grouped queries; 2 x 96 tokens."""
    config = hf.LlamaConfig(
        vocab_size=TOKENS, hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=96, use_cache=False,
    )  # fmt: skip
    return hf.LlamaForCausalLM(config), (tokens(2, 96),), {}


def vit() -> Made:
    """4 layers of width 256 on 4 images of 64 x 64."""
    config = hf.ViTConfig(
        hidden_size=256, num_hidden_layers=4, num_attention_heads=8, intermediate_size=1024, image_size=64,
        patch_size=8, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return hf.ViTForImageClassification(config), (torch.randn(4, 3, 64, 64),), {}


def resnet50() -> Made:
    """All 50 layers; 2 images of 96 x 96."""
    return hf.ResNetForImageClassification(hf.ResNetConfig()), (torch.randn(2, 3, 96, 96),), {}


def convnext() -> Made:
    """Depthwise convolutions of 7 x 7; 2 images of 96 x 96."""
    config = hf.ConvNextConfig(hidden_sizes=[48, 96, 192, 384], depths=[2, 2, 4, 2], drop_path_rate=0.0)
    return hf.ConvNextForImageClassification(config), (torch.randn(2, 3, 96, 96),), {}


def unet() -> Made:
    """A U-Net with skip connections; 2 images of 64 x 64."""
    return UNet(width=24, levels=3), (torch.randn(2, 3, 64, 64),), {}


def two_tower() -> Made:
    """Two branches that meet at the end."""
    return TwoTower(TOKENS, width=256, blocks=4), (tokens(64, 12), tokens(64, 12)), {}


class Recurrent(nn.Module):
    """A tagger: embedding, two GRU layers unrolled by hand, and a classifier."""

    def __init__(self, width: int = 192) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, width)
        self.cells = nn.ModuleList(nn.GRUCell(width, width) for _ in range(2))
        self.head = nn.Linear(width, 64)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """[rows, length] of tokens -> [rows, length, 64]."""
        states = [torch.zeros(words.shape[0], self.head.in_features) for _ in self.cells]
        outputs = []
        for x in self.embedding(words).unbind(1):
            for i, cell in enumerate(self.cells):
                x = states[i] = cell(x, states[i])
            outputs.append(self.head(x))
        return torch.stack(outputs, 1)


def gru() -> Made:
    """Small ops, one after the other: 16 steps of two cells on 32 rows."""
    return Recurrent(), (tokens(32, 16),), {}


def mlp() -> Made:
    """Eight wide layers; 256 rows of 768."""
    layers: list[nn.Module] = []
    for _ in range(8):
        layers += [nn.Linear(768, 768), nn.GELU(), nn.LayerNorm(768)]
    return nn.Sequential(*layers), (torch.randn(256, 768),), {}


def whisper() -> Made:
    """Speech: a convolutional front end, an encoder and a decoder of 2 layers each."""
    config = hf.WhisperConfig(
        vocab_size=TOKENS, d_model=192, encoder_layers=2, decoder_layers=2, encoder_attention_heads=6,
        decoder_attention_heads=6, encoder_ffn_dim=768, decoder_ffn_dim=768, max_source_positions=150,
        max_target_positions=64, num_mel_bins=80, dropout=0.0, use_cache=False, pad_token_id=0, bos_token_id=0,
        eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    return hf.WhisperForConditionalGeneration(config), (), {
        "input_features": torch.randn(2, 80, 300),
        "decoder_input_ids": tokens(2, 32),
    }  # fmt: skip


MODELS: dict[str, Callable[[], Made]] = {
    function.__name__: function
    for function in (gpt2, bert, t5, llama, vit, resnet50, convnext, unet, two_tower, gru, mlp, whisper)
}
"""By name."""


def build(name: str) -> Made:
    """A model, its weights the same every time, with the arguments of a call."""
    torch.manual_seed(0)
    return MODELS[name]()
