"""Models of the sizes that people place, on the meta device: nothing is allocated, and nothing runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers as hf
from torch import nn

from examples.inception import Inception
from examples.unet import UNet
from torchplace.compiler.capture import Captured
from torchplace.compiler.dry import capture_dry
from torchplace.errors import CaptureError

Inputs = dict[str, torch.Tensor]
Made = tuple[nn.Module, Inputs]


def tokens(rows: int, length: int) -> torch.Tensor:
    """[rows, length] of tokens, without data."""
    return torch.empty(rows, length, dtype=torch.long, device="meta")


def images(count: int, pixels: int) -> torch.Tensor:
    """[count, 3, pixels, pixels], without data."""
    return torch.empty(count, 3, pixels, pixels, device="meta")


def gpt2(rows: int = 1) -> Made:
    """GPT-2 small: 12 layers of width 768, 124 million parameters; 1 x 1,024 tokens."""
    config = hf.GPT2Config(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, use_cache=False)
    return hf.GPT2LMHeadModel(config), {"input_ids": tokens(rows, 1024)}


def gpt2_batch() -> Made:
    """GPT-2 small on 16 x 1,024 tokens, with AdamW in training: more than one GPU of 12 or 16 GB holds."""
    return gpt2(16)


def bert() -> Made:
    """BERT base: 12 layers of width 768, 110 million parameters; 8 x 512 tokens with a mask."""
    config = hf.BertConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return hf.BertForMaskedLM(config), {"input_ids": tokens(8, 512), "attention_mask": tokens(8, 512)}


def t5() -> Made:
    """T5 base: 12 + 12 layers of width 768, 223 million parameters; 8 x 512 tokens in, 8 x 128 out."""
    config = hf.T5Config(
        d_model=768, d_ff=3072, num_layers=12, num_heads=12, dropout_rate=0.0, decoder_start_token_id=0, use_cache=False
    )
    inputs = {"input_ids": tokens(8, 512), "decoder_input_ids": tokens(8, 128)}
    return hf.T5ForConditionalGeneration(config), inputs


def mixtral(layers: int = 8, width: int = 1024) -> Made:
    """Mixtral, 8 layers, a fourth as wide, 786 million parameters; 8 experts, 2 for each of 1 x 1,024 tokens."""
    config = hf.MixtralConfig(
        hidden_size=width,
        intermediate_size=7 * width // 2,
        num_hidden_layers=layers,
        num_attention_heads=width // 128,
        num_key_value_heads=width // 512,
        max_position_embeddings=1024,
        use_cache=False,
        experts_implementation="grouped_mm",  # one op for all experts: a loop over them would depend on the data
    )
    return hf.MixtralForCausalLM(config), {"input_ids": tokens(1, 1024)}


def mixtral_wide() -> Made:
    """Mixtral, half as wide and half as deep, 5.9 billion parameters (24 GB): more than any one GPU here holds."""
    return mixtral(layers=16, width=2048)


def resnet50() -> Made:
    """ResNet-50, 25.6 million parameters; 32 images of 224 x 224."""
    return hf.ResNetForImageClassification(hf.ResNetConfig(num_labels=1000)), {"pixel_values": images(32, 224)}


def inception() -> Made:
    """Inception-v3, 23.8 million parameters; 32 images of 299 x 299."""
    return Inception(), {"images": images(32, 299)}


def unet() -> Made:
    """U-Net of the paper's width, 64 to 1,024 channels, 31 million parameters; 4 images of 512 x 512."""
    return UNet(width=64, levels=4), {"images": images(4, 512)}


def llama_405b() -> Made:
    """Llama 3.1 405B in bfloat16; a micro-batch of 1 x 4,096 tokens."""
    config = hf.LlamaConfig(
        vocab_size=128_256,
        hidden_size=16_384,
        intermediate_size=53_248,
        num_hidden_layers=126,
        num_attention_heads=128,
        num_key_value_heads=8,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        use_cache=False,
    )
    return hf.LlamaForCausalLM(config).to(torch.bfloat16), {"input_ids": tokens(1, 4096)}


@dataclass(frozen=True)
class Planned:
    """One model of the benchmark.

    Attributes:
        name: of the model.
        make: builds it, and the inputs of a call.
        optimizer: whose state counts in training.
        scarce: it does not fit on one device of most machines.
    """

    name: str
    make: Callable[[], Made]
    optimizer: str | None = None
    scarce: bool = False

    def capture(self, training: bool) -> Captured:
        """The graph of a call.

        Raises:
            CaptureError: the model breaks into several graphs.
        """
        with torch.device("meta"):
            model, inputs = self.make()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = capture_dry(model.train(training), (), inputs, training=training)
        if len(found) > 1:
            raise CaptureError(f"{self.name} breaks into {len(found)} graphs; the benchmark plans models of one")
        return found[0]


MODELS: dict[str, Planned] = {
    model.name: model
    for model in (
        Planned("gpt2", gpt2),
        Planned("bert", bert),
        Planned("t5", t5),
        Planned("mixtral", mixtral),
        Planned("resnet50", resnet50),
        Planned("inception", inception),
        Planned("unet", unet),
        Planned("gpt2-batch", gpt2_batch, optimizer="adamw", scarce=True),
        Planned("mixtral-wide", mixtral_wide, scarce=True),
    )
}
"""By name."""

LLAMA_405B = Planned("llama-405b", llama_405b, scarce=True)
"""Not among the others: it is for clusters."""
