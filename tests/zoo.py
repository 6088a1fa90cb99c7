"""Small configurations of models that people use, with random weights, for tests: nothing is downloaded.

None has dropout, so that every result can be compared with eager's. Each is fast: eager takes well below a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from torch import nn

from benchmarks._outputs import floating
from examples.two_tower import TwoTower
from examples.unet import UNet

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
TOKENS, LENGTH = 96, 12


@dataclass(frozen=True)
class Entry:
    """One model of the zoo.

    Attributes:
        name: of the architecture.
        make: builds it.
        inputs: batch size -> positional and keyword arguments.
    """

    name: str
    make: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs]

    def build(self) -> nn.Module:
        """The model, its weights the same every time."""
        torch.manual_seed(0)
        return self.make()

    def __str__(self) -> str:
        return self.name


def loss(output: Any) -> torch.Tensor:
    """A number that depends on every element of every floating-point output, on each with another weight."""
    return torch.stack([_weighted(t) for t in floating(output) if t.requires_grad]).sum()


def _weighted(tensor: torch.Tensor) -> torch.Tensor:
    weights = torch.arange(tensor.numel(), dtype=torch.float64).mul(math.sqrt(2)).cos()
    return (tensor.flatten() * weights.to(tensor.dtype)).sum() / math.sqrt(tensor.numel())


def _generator(batch: int) -> torch.Generator:
    return torch.Generator().manual_seed(batch)


def tokens(batch: int, length: int = LENGTH) -> torch.Tensor:
    """[batch, length] of tokens."""
    return torch.randint(2, TOKENS, (batch, length), generator=_generator(batch))


def images(batch: int, size: int) -> torch.Tensor:
    """[batch, 3, size, size]."""
    return torch.randn(batch, 3, size, size, generator=_generator(batch))


def mask(batch: int) -> torch.Tensor:
    """[batch, LENGTH]: 1 for tokens, 0 for padding; each row has another length."""
    lengths = torch.arange(batch).remainder(4).neg() + LENGTH
    return (torch.arange(LENGTH) < lengths[:, None]).long()


def _gpt2() -> nn.Module:
    config = hf.GPT2Config(
        vocab_size=TOKENS,
        n_positions=16,
        n_embd=32,
        n_layer=2,
        n_head=4,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=1,
        use_cache=False,
    )
    return hf.GPT2LMHeadModel(config)


def _bert() -> nn.Module:
    config = hf.BertConfig(
        vocab_size=TOKENS,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return hf.BertForMaskedLM(config)


def _t5() -> nn.Module:
    config = hf.T5Config(
        vocab_size=TOKENS,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_decoder_layers=1,
        num_heads=4,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
        use_cache=False,
    )
    return hf.T5ForConditionalGeneration(config)


def _vit() -> nn.Module:
    config = hf.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        num_labels=5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return hf.ViTForImageClassification(config)


def _resnet50() -> nn.Module:
    """ResNet-50's 53 convolutions and bottlenecks, an eighth as wide."""
    config = hf.ResNetConfig(
        embedding_size=8, hidden_sizes=[32, 64, 128, 256], depths=[3, 4, 6, 3], layer_type="bottleneck", num_labels=5
    )
    return hf.ResNetForImageClassification(config)


def _llama() -> nn.Module:
    """Four query heads share two key-value heads."""
    config = hf.LlamaConfig(
        vocab_size=TOKENS,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=1,
        use_cache=False,
    )
    return hf.LlamaForCausalLM(config)


def _mixtral() -> nn.Module:
    """Four experts, two for each token."""
    config = hf.MixtralConfig(
        vocab_size=TOKENS,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=1,
        use_cache=False,
        output_router_logits=True,
    )
    return hf.MixtralForCausalLM(config)


def _two_tower_inputs(batch: int) -> Inputs:
    return (tokens(batch), tokens(batch + 1)[1:]), {}


ZOO: tuple[Entry, ...] = (
    Entry("gpt2", _gpt2, lambda batch: ((tokens(batch),), {})),
    Entry("bert", _bert, lambda batch: ((tokens(batch),), {"attention_mask": mask(batch)})),
    Entry("t5", _t5, lambda batch: ((), {"input_ids": tokens(batch), "decoder_input_ids": tokens(batch, 7)})),
    Entry("vit", _vit, lambda batch: ((images(batch, 32),), {})),
    Entry("resnet50", _resnet50, lambda batch: ((images(batch, 64),), {})),
    Entry("llama", _llama, lambda batch: ((tokens(batch),), {})),
    Entry("mixtral", _mixtral, lambda batch: ((tokens(batch),), {})),
    Entry("unet", lambda: UNet(width=8, levels=2), lambda batch: ((images(batch, 16),), {})),
    Entry("two-tower", lambda: TwoTower(TOKENS, width=16, blocks=2), _two_tower_inputs),
)
