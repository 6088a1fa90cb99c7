"""Architectures that see, hear, denoise, walk graphs and recommend: small, with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

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
        yield Entry(f"timm-{name}", "timm", _timm(name), _pictures(224 if "_224" in name else 64))
    yield from _denoising()
    yield from _walking()
    yield from _own()


def _made(beginning: str, ending: str, settings: dict[str, Any]) -> Callable[[], nn.Module]:
    return lambda: make(beginning, ending, settings)


def _pictures(size: int) -> Callable[[int], Inputs]:
    return lambda batch: ((images(batch, size),), {})


def _timm(name: str) -> Callable[[], nn.Module]:
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
        yield Entry(f"geometric-{kind}", "torch_geometric", _graphs(kind), _edges)


def _graphs(kind: str) -> Callable[[], nn.Module]:
    return lambda: _Graphs(kind)


def _edges(batch: int) -> Inputs:
    nodes, draw = 10 * batch, torch.Generator().manual_seed(batch)
    return (torch.randn(nodes, 8, generator=draw), torch.randint(0, nodes, (2, 30 * batch), generator=draw)), {}


class Recommender(nn.Module):
    """Like DLRM (Naumov et al. 2019): embeddings of categories, a tower of numbers, and all pairs of their products."""

    def __init__(self, tables: int = 4, width: int = 16) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.EmbeddingBag(50, width, mode="sum") for _ in range(tables))
        self.below = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, width))
        pairs = (tables + 1) * tables // 2
        self.above = nn.Sequential(nn.Linear(pairs + width, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        x = self.below(numbers)
        parts = torch.stack([x, *(table(categories[:, i]) for i, table in enumerate(self.tables))], dim=1)
        products = torch.bmm(parts, parts.transpose(1, 2))
        above = torch.triu_indices(parts.shape[1], parts.shape[1], 1)
        return torch.sigmoid(self.above(torch.cat([x, products[:, above[0], above[1]]], dim=1)))


class Recurrent(nn.Module):
    """Words through an LSTM or a GRU."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.words, self.last = nn.Embedding(96, 16), nn.Linear(24, 5)
        self.cells: nn.Module = getattr(nn, kind)(16, 24, num_layers=2, batch_first=True)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.last(self.cells(self.words(words))[0])  # type: ignore[no-any-return]


class Seq2Seq(nn.Module):
    """`nn.Transformer`."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.last = nn.Embedding(96, WIDTH), nn.Linear(WIDTH, 96)
        self.body = nn.Transformer(WIDTH, 4, 2, 2, 48, dropout=0.0, batch_first=True)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        return self.last(self.body(self.words(source), self.words(target), tgt_mask=mask, tgt_is_causal=True))  # type: ignore[no-any-return]


class Odd(nn.Module):
    """What users write: checkpoints, weight norm, a print, a branch on a value, a dict of results, and Nones."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.utils.parametrizations.weight_norm(nn.Linear(16, 24))
        self.norm, self.last = nn.BatchNorm1d(24), nn.Linear(24, 5)

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> dict[str, Any]:
        h = checkpoint(lambda y: F.gelu(self.first(y)), x, use_reentrant=False)
        h = self.norm(h) * scale
        if h.abs().mean().item() > 100:
            h = h / 2
        h = torch.cond(h.sum() > 0, lambda y: y * 2, lambda y: y - 1, (h,))
        return {"logits": self.last(h), "hidden": (h, None), "loss": None}


def _own() -> Iterator[Entry]:
    draw = torch.Generator().manual_seed(0)
    yield Entry(
        "dlrm",
        "torch",
        Recommender,
        lambda b: (
            (torch.randn(b, 13, generator=draw.manual_seed(b)), torch.randint(0, 50, (b, 4, 3), generator=draw)),
            {},
        ),
    )
    for kind in ("LSTM", "GRU"):
        yield Entry(kind.lower(), "torch", _recurrent(kind), lambda b: ((tokens(b),), {}))
    yield Entry("nn-transformer", "torch", Seq2Seq, lambda b: ((tokens(b), tokens(b, 7)), {}))
    yield Entry("odd", "torch", Odd, lambda b: ((sound(b + 2, 16),), {"scale": 0.5}))


def _recurrent(kind: str) -> Callable[[], nn.Module]:
    return lambda: Recurrent(kind)
