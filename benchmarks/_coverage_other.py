"""Architectures that see, hear, denoise and walk graphs: small, with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from benchmarks._coverage_entry import Entry, Inputs
from benchmarks._coverage_text import COMMON, WIDTH, make, tokens

_VIT = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
    "num_labels": 5,
}
SEEING: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "vit": ("ViT", "ForImageClassification", _VIT, 32),
    "deit": ("DeiT", "ForImageClassification", _VIT, 32),
    "beit": ("Beit", "ForImageClassification", _VIT, 32),
    "dinov2": ("Dinov2", "ForImageClassification", _VIT, 32),
    "swin": (
        "Swin",
        "ForImageClassification",
        {
            "image_size": 32,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [2, 4],
            "window_size": 4,
            "drop_path_rate": 0.0,
            "num_labels": 5,
        },
        32,
    ),
    "convnext": (
        "ConvNext",
        "ForImageClassification",
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_labels": 5},
        64,
    ),
    "resnet": (
        "ResNet",
        "ForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 1], "num_labels": 5},
        64,
    ),
    "regnet": (
        "RegNet",
        "ForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 1], "groups_width": 8, "num_labels": 5},
        64,
    ),
    "mobilenet-v2": (
        "MobileNetV2",
        "ForImageClassification",
        {"depth_multiplier": 0.25, "num_labels": 5, "classifier_dropout_prob": 0.0},
        64,
    ),
    "segformer": (
        "Segformer",
        "ForSemanticSegmentation",
        {
            "hidden_sizes": [8, 16, 24, 32],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 4],
            "decoder_hidden_size": 16,
            "drop_path_rate": 0.0,
            "num_labels": 5,
        },
        64,
    ),
    "poolformer": (
        "PoolFormer",
        "ForImageClassification",
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "drop_path_rate": 0.0, "num_labels": 5},
        64,
    ),
}
"""Name -> the class's beginning and ending, its configuration, and the size of its images."""

_UNET = {"sample_size": 16, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
DENOISING: dict[str, tuple[str, dict[str, Any], Callable[[int], Inputs]]] = {
    "unet": (
        "UNet2DModel",
        {
            **_UNET,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        },
        lambda batch: ((images(batch, 16), torch.arange(batch) + 3), {}),
    ),
    "unet-conditional": (
        "UNet2DConditionModel",
        {
            **_UNET,
            "cross_attention_dim": 16,
            "attention_head_dim": 4,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        },
        lambda batch: ((images(batch, 16, 4), torch.arange(batch) + 3, sound(batch, 6 * 16).view(batch, 6, 16)), {}),
    ),
    "autoencoder": (
        "AutoencoderKL",
        {
            "block_out_channels": (8, 16),
            "norm_num_groups": 4,
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
        },
        lambda batch: ((images(batch, 16),), {}),
    ),
    "dit": (
        "DiTTransformer2DModel",
        {
            "num_attention_heads": 4,
            "attention_head_dim": 8,
            "in_channels": 3,
            "num_layers": 2,
            "sample_size": 16,
            "patch_size": 2,
            "norm_num_groups": 4,
            "num_embeds_ada_norm": 10,
        },
        lambda batch: ((images(batch, 16), torch.arange(batch) + 3, torch.arange(batch) % 5), {}),
    ),
}
"""Name -> the class of diffusers, its configuration, and the arguments of a call."""

TIMM = (
    "resnet18",
    "mobilenetv3_small_050",
    "efficientnet_b0",
    "densenet121",
    "regnetx_002",
    "convnextv2_atto",
    "vit_tiny_patch16_224",
    "mixer_s32_224",
    "ghostnet_050",
    "repvgg_a0",
)


def images(batch: int, size: int, channels: int = 3) -> torch.Tensor:
    """[batch, channels, size, size]."""
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(batch))


def sound(batch: int, length: int) -> torch.Tensor:
    """[batch, length] of a wave."""
    return torch.randn(batch, length, generator=torch.Generator().manual_seed(batch))


def entries() -> Iterator[Entry]:
    """All of them."""
    for name, (beginning, ending, settings, size) in SEEING.items():
        yield Entry(name, "transformers", _made(beginning, ending, settings), _pictures(size))
    yield from _hearing()
    yield from _of_several_kinds()
    for name in TIMM:
        yield Entry(f"timm-{name}", "timm", timm_model(name), _pictures(224 if "_224" in name else 64))
    yield from _denoising()
    yield from _walking()


def _made(beginning: str, ending: str, settings: dict[str, Any]) -> Callable[[], nn.Module]:
    return lambda: make(beginning, ending, settings)


def _pictures(size: int) -> Callable[[int], Inputs]:
    return lambda batch: ((images(batch, size),), {})


def timm_model(name: str) -> Callable[[], nn.Module]:
    """What makes a model of timm, with five classes."""

    def build() -> nn.Module:
        import timm

        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=5, drop_rate=0.0)
        return model

    return build


_WAVE = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [16, 16],
    "conv_kernel": [10, 3],
    "conv_stride": [5, 2],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 20,
    "feat_proj_dropout": 0.0,
    "final_dropout": 0.0,
    "layerdrop": 0.0,
    "apply_spec_augment": False,
}


def _hearing() -> Iterator[Entry]:
    for name, beginning in (("wav2vec2", "Wav2Vec2"), ("hubert", "Hubert"), ("wavlm", "WavLM")):
        yield Entry(name, "transformers", _made(beginning, "ForCTC", _WAVE), lambda batch: ((sound(batch, 400),), {}))
    whisper = {
        "vocab_size": 96,
        "num_mel_bins": 8,
        "d_model": WIDTH,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_source_positions": 16,
        "max_target_positions": 16,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
        "suppress_tokens": None,
        "begin_suppress_tokens": None,
    }
    yield Entry(
        "whisper",
        "transformers",
        _made("Whisper", "ForConditionalGeneration", whisper),
        lambda batch: (
            (),
            {"input_features": sound(batch, 8 * 32).view(batch, 8, 32), "decoder_input_ids": tokens(batch, 6)},
        ),
    )
    spectrogram = {**_VIT, "max_length": 32, "num_mel_bins": 16, "frequency_stride": 8, "time_stride": 8}
    yield Entry(
        "ast",
        "transformers",
        _made("AST", "ForAudioClassification", spectrogram),
        lambda batch: ((sound(batch, 32 * 16).view(batch, 32, 16),), {}),
    )


def _of_several_kinds() -> Iterator[Entry]:
    """Text and images."""
    text = {k: v for k, v in COMMON.items() if k != "pad_token_id"}
    vision = {k: v for k, v in _VIT.items() if k != "num_labels"}
    for name, beginning in (("clip", "CLIP"), ("siglip", "Siglip")):
        settings = {"text_config": text, "vision_config": vision, "projection_dim": 16}
        yield Entry(
            name,
            "transformers",
            _made(beginning, "Model", settings),
            lambda batch: ((), {"input_ids": tokens(batch), "pixel_values": images(batch, 32)}),
        )


def _denoising() -> Iterator[Entry]:
    for name, (kind, settings, inputs) in DENOISING.items():
        yield Entry(f"diffusers-{name}", "diffusers", _diffusers(kind, settings), inputs)


def _diffusers(kind: str, settings: dict[str, Any]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import diffusers

        model: nn.Module = getattr(diffusers, kind)(**settings)
        for module in model.modules():
            if hasattr(module, "dropout_prob"):  # of labels: which are dropped is drawn, as in dropout
                module.dropout_prob = 0.0
        return model

    return build


class _Graphs(nn.Module):
    """Two layers of message passing, and a read-out."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        from torch_geometric import nn as gnn

        def layer(width: int) -> nn.Module:
            if kind == "GINConv":
                made: nn.Module = gnn.GINConv(nn.Sequential(nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, 16)))
                return made
            made = getattr(gnn, kind)(width, 16)
            return made

        self.first, self.second, self.last = layer(8), layer(16), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.second(torch.relu(self.first(x, edges)), edges)))  # type: ignore[no-any-return]


def _walking() -> Iterator[Entry]:
    for kind in ("GCNConv", "GATConv", "SAGEConv", "GINConv"):
        yield Entry(f"geometric-{kind}", "torch_geometric", _graphs(kind), _edges, rows=False)


def _graphs(kind: str) -> Callable[[], nn.Module]:
    return lambda: _Graphs(kind)


def _edges(batch: int) -> Inputs:
    nodes, draw = 10 * batch, torch.Generator().manual_seed(batch)
    return (torch.randn(nodes, 8, generator=draw), torch.randint(0, nodes, (2, 30 * batch), generator=draw)), {}
