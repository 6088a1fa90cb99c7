"""Architectures that nobody wrote down: every type of `transformers` and family of timm, made small by rule.

A configuration is the library's own by default, and what says how large it is (`_SMALL`) is set in it and in the
configurations within; inputs are what the forward asks for by name. Where eager does not take that, some settings stay
as they are (`_APART`), or arguments are left out (`_LEFT_OUT`). What no way fits is told apart from what fails here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from benchmarks._coverage_entry import Entry, Inputs
from benchmarks._coverage_other import sound, timm_model
from benchmarks._coverage_text import DROPS, LENGTH, VOCABULARY, WIDTH
from benchmarks._outputs import floating

_SIZE = 32
_SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embed_dim", "embedding_size", "emb_dim"), WIDTH),
    **dict.fromkeys(("width", "model_dim", "projection_dim", "decoder_hidden_size", "hidden_dim"), WIDTH),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers", "depth"), 2),
    **dict.fromkeys(("decoder_layers", "encoder_num_hidden_layers", "decoder_num_hidden_layers"), 2),
    **dict.fromkeys(("num_decoder_layers", "num_encoder_layers", "num_block", "decoder_num_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "attention_heads", "encoder_num_attention_heads"), 4),
    **dict.fromkeys(("decoder_num_attention_heads", "num_key_value_heads", "num_kv_heads"), 4),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_ff", "n_inner"), 48),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "decoder_intermediate_size"), 48),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("head_dim", "d_kv", "kv_channels", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("vocab_size", "decoder_vocab_size", "text_vocab_size"), VOCABULARY),
    **dict.fromkeys(("image_size", "img_size", "crop_size", "decoder_image_size"), _SIZE),
    **dict.fromkeys(("num_queries", "num_query_tokens", "num_latents"), 6),
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 64,
    "n_positions": 64,
    "max_source_positions": 16,
    "num_mel_bins": 16,
    "patch_size": 8,
    "conv_dim": (16, 16),
    "conv_kernel": (10, 3),
    "conv_stride": (5, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
    **dict.fromkeys(("mask_time_prob", "mask_feature_prob"), 0.0),  # drawn by numpy
    "apply_spec_augment": False,
    "use_cache": False,
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
}
_MOST = 30_000_000
"""Parameters of a model."""
_ENDS = (
    "MODEL_FOR_CAUSAL_LM",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ",
    "MODEL_FOR_MASKED_LM",
    "MODEL_FOR_CTC",
    "MODEL_FOR_IMAGE_CLASSIFICATION",
    "MODEL_FOR_OBJECT_DETECTION",
    "MODEL_FOR_UNIVERSAL_SEGMENTATION",
    "MODEL_FOR_SEMANTIC_SEGMENTATION",
    "MODEL_FOR_DEPTH_ESTIMATION",
    "MODEL_FOR_VIDEO_CLASSIFICATION",
    "MODEL",
)


def entries(library: str) -> Iterator[Entry]:
    """One for each type of `transformers` that has a model, or each family of timm."""
    yield from _OF[library]()


def named(names: Sequence[str]) -> list[Entry]:
    """Those of these names, as in "timm:resnet".

    Raises:
        KeyError: a library has none such.
    """
    libraries = dict.fromkeys(name.partition(":")[0] for name in names)
    known = {entry.name: entry for library in libraries for entry in entries(library)}
    return [known[name] for name in names]


def _types() -> Iterator[Entry]:
    """The first of the models of `_ENDS` that each type of `transformers` has."""
    from transformers.models.auto import configuration_auto, modeling_auto

    for kind in configuration_auto.CONFIG_MAPPING_NAMES:
        known = (getattr(modeling_auto, f"{end}_MAPPING_NAMES").get(kind) for end in _ENDS)
        names = [name for name in known if name is not None]
        if names:
            yield _typed(kind, names[0] if isinstance(names[0], str) else names[0][0])


def _typed(kind: str, model: str) -> Entry:
    def inputs(batch: int) -> Inputs:
        return _way(kind, model).inputs(batch)

    return Entry(f"transformers:{kind}", "transformers", lambda: _way(kind, model).make(), inputs)


def _families() -> Iterator[Entry]:
    """The least of the models of each module of timm."""
    import timm

    for module in timm.list_modules():
        name = min(timm.list_models(module=module, exclude_filters=["test_*"]), key=_weight, default=None)
        if name is not None:
            yield Entry(f"timm:{module}", "timm", _pictured(name), _seen(name))


def _weight(name: str) -> tuple[int, str]:
    """What puts small models first, going by their names alone."""
    small = ("atto", "femto", "pico", "nano", "micro", "tiny", "_xxs", "_050", "18", "small", "_s")
    return next((i for i, word in enumerate(small) if word in name), len(small)), name


def _pictured(name: str) -> Callable[[], nn.Module]:
    build = timm_model(name)
    return lambda: _undropped(build())


def _undropped(model: nn.Module) -> nn.Module:
    """A model that drops nothing in training, whatever its settings are."""
    for module in model.modules():
        for name in ("p", "drop_prob"):
            if isinstance(getattr(module, name, None), float) and "drop" in type(module).__name__.lower():
                setattr(module, name, 0.0)
    return model


def _seen(name: str) -> Callable[[int], Inputs]:
    def inputs(batch: int) -> Inputs:
        import timm

        config = timm.get_pretrained_cfg(name)
        sizes = config.input_size if config is not None else (3, 224, 224)
        fixed = config is not None and (config.fixed_input_size or "vit" in name)
        sizes = sizes if fixed else (sizes[0], min(sizes[1], 96), min(sizes[2], 96))
        return (torch.rand(batch, *sizes, generator=torch.Generator().manual_seed(batch)),), {}

    return inputs


_APART: tuple[tuple[str, ...], ...] = (
    (),
    ("head_dim", "d_kv", "kv_channels", "qk_nope_head_dim", "v_head_dim", "qk_rope_head_dim"),
    ("image_size", "patch_size", "num_channels"),
    ("hidden_dim", "embed_dim", "dim", "width", "projection_dim", "embedding_size", "emb_dim"),
    ("num_experts_per_tok", "num_experts", "n_routed_experts", "num_local_experts", "q_lora_rank", "kv_lora_rank"),
    ("bos_token_id", "eos_token_id", "pad_token_id"),
    ("num_hidden_layers", "num_layers", "layer_types", "depth", "encoder_layers"),
    ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size"),
)
"""Settings that stay the library's own, in the order of what is tried: no set of them fits every type."""
_LEFT_OUT: tuple[tuple[str, ...], ...] = ((), ("pixel_values",), ("attention_mask",), ("input_ids", "attention_mask"))
"""Arguments that are left out, in the order of what is tried."""


@dataclass(frozen=True)
class _Way:
    """One way to make a type small: which settings stay, and which arguments it is not given."""

    kind: str
    model: str
    apart: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def make(self) -> nn.Module:
        """The model."""
        import transformers as hf

        return _undropped(getattr(hf, self.model)(self.config()))

    def config(self) -> Any:
        """Its configuration."""
        import transformers as hf

        config = hf.AutoConfig.for_model(self.kind)
        _shrink(config, self.apart)
        return config

    def inputs(self, batch: int) -> Inputs:
        """What the forward asks for, as far as it is known."""
        import transformers as hf

        drawn, config, owner = torch.Generator().manual_seed(batch), self.config(), getattr(hf, self.model)
        wanted = {name for name in inspect.signature(owner.forward).parameters if name in _GIVEN} - {*self.left_out}
        if {"input_features", "input_values"} & wanted:
            wanted -= {"attention_mask"} | ({"input_ids"} if "decoder_input_ids" in wanted else set())
        return (), {name: _GIVEN[name](config, batch, drawn) for name in sorted(wanted)}

    def runs(self) -> bool:
        """Whether eager takes it, in training too."""
        try:
            with torch.device("meta"):
                if sum(p.numel() for p in self.make().parameters()) > _MOST:
                    return False
            with torch.random.fork_rng():
                model = self.make().train()
                args, kwargs = self.inputs(2)
                return any(output.requires_grad for output in floating(model(*args, **kwargs)))
        except Exception:  # another way may do
            return False


@cache
def _way(kind: str, model: str) -> _Way:
    """The first way that eager takes; the first of all if it takes none."""
    ways = [_Way(kind, model, apart, left_out) for apart in _APART for left_out in _LEFT_OUT]
    return next((way for way in ways if way.runs()), ways[0])


def _shrink(config: Any, apart: Sequence[str], depth: int = 0) -> None:
    """Set what makes a configuration, and those within it, small; and every dropout to zero."""
    import transformers as hf

    for name, value in list(vars(config).items()):
        if isinstance(value, hf.PretrainedConfig) and depth < 4:
            _shrink(value, apart, depth + 1)
        elif name in DROPS and isinstance(value, float):
            setattr(config, name, 0.0)
        elif name in _SMALL and name not in apart and _is_list(value) == _is_list(_SMALL[name]) and value is not None:
            setattr(config, name, _SMALL[name])
        elif name == "layer_types" and isinstance(value, list) and name not in apart:
            setattr(config, name, value[:1] + value[-1:])


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _within(config: Any, name: str, default: Any) -> Any:
    """What a configuration, or the first within it that has it, says."""
    import transformers as hf

    if isinstance(getattr(config, name, None), (int, list, tuple)):
        return getattr(config, name)
    parts = [value for value in vars(config).values() if isinstance(value, hf.PretrainedConfig)]
    return next((found for part in parts if (found := _within(part, name, None)) is not None), default)


def _tokens(config: Any, batch: int, drawn: torch.Generator) -> torch.Tensor:
    return torch.randint(2, min(VOCABULARY, _within(config, "vocab_size", 96)), (batch, LENGTH), generator=drawn)


def _mask(config: Any, batch: int, drawn: torch.Generator) -> torch.Tensor:
    mask = torch.ones(batch, LENGTH, dtype=torch.long)
    mask[0, -3:] = 0
    return mask


def _picture(config: Any, batch: int, drawn: torch.Generator) -> torch.Tensor:
    size = _within(config, "image_size", 64)
    high, wide = size if isinstance(size, (list, tuple)) else (size, size)
    frames = (frames,) if (frames := _within(config, "num_frames", 0)) else ()
    return torch.rand(batch, *frames, _within(config, "num_channels", 3), high, wide, generator=drawn)


def _features(config: Any, batch: int, drawn: torch.Generator) -> torch.Tensor:
    return torch.rand(batch, _within(config, "num_mel_bins", 80), 32, generator=drawn)


def _wave(config: Any, batch: int, drawn: torch.Generator) -> torch.Tensor:
    return sound(batch, 2000)


_GIVEN: dict[str, Callable[[Any, int, torch.Generator], torch.Tensor]] = {
    "input_ids": _tokens,
    "decoder_input_ids": _tokens,
    "attention_mask": _mask,
    "pixel_values": _picture,
    "input_features": _features,
    "input_values": _wave,
}

_OF: dict[str, Callable[[], Iterator[Entry]]] = {"transformers": _types, "timm": _families}
LIBRARIES = tuple(_OF)
