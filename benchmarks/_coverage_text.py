"""Architectures of `transformers` that read text: small configurations of the library's own classes, random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from benchmarks._coverage_entry import Entry, Inputs

VOCABULARY, LENGTH, WIDTH = 96, 16, 32

COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
_GROUPED = {**COMMON, "num_key_value_heads": 2, "head_dim": 8}
_LAYERS = {"vocab_size": VOCABULARY, "n_layer": 2, "n_head": 4, "n_embd": WIDTH, "n_positions": 64}
DROPS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "hidden_dropout",
    "embd_pdrop",
    "attn_pdrop",
    "resid_pdrop",
    "embed_dropout",
    "resid_dropout",
    "dropout_rate",
    "classifier_dropout_prob",
    "embedding_dropout",
    "layerdrop",
    "encoder_layerdrop",
    "decoder_layerdrop",
    "router_jitter_noise",
    "drop_path_rate",
    "residual_dropout",
    "classifier_dropout",
)

DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", _LAYERS),
    "gpt-neo": (
        "GPTNeo",
        {
            **COMMON,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 8,
        },
    ),
    "gpt-neox": ("GPTNeoX", COMMON),
    "gpt-j": ("GPTJ", {**_LAYERS, "rotary_dim": 4}),
    "codegen": ("CodeGen", {**_LAYERS, "rotary_dim": 4}),
    "opt": ("OPT", {**COMMON, "ffn_dim": 48, "word_embed_proj_dim": WIDTH}),
    "bloom": ("Bloom", {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "n_layer": 2, "n_head": 4}),
    "mpt": ("Mpt", {"vocab_size": VOCABULARY, "d_model": WIDTH, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}),
    "falcon": ("Falcon", {**COMMON, "new_decoder_architecture": False}),
    "llama": ("Llama", _GROUPED),
    "mistral": ("Mistral", {**_GROUPED, "sliding_window": 8}),
    "mixtral": ("Mixtral", {**_GROUPED, "num_local_experts": 4, "output_router_logits": True}),
    "qwen2": ("Qwen2", _GROUPED),
    "qwen2-moe": (
        "Qwen2Moe",
        {**_GROUPED, "num_experts": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24},
    ),
    "qwen3": ("Qwen3", _GROUPED),
    "gemma": ("Gemma", _GROUPED),
    "gemma2": ("Gemma2", {**_GROUPED, "sliding_window": 8, "query_pre_attn_scalar": 8}),
    "gemma3": ("Gemma3", {**_GROUPED, "sliding_window": 8, "_config": "Gemma3TextConfig"}),
    "phi": ("Phi", COMMON),
    "phi3": ("Phi3", {**_GROUPED, "rope_scaling": None}),
    "stablelm": ("StableLm", _GROUPED),
    "starcoder2": ("Starcoder2", _GROUPED),
    "olmo": ("Olmo", _GROUPED),
    "olmo2": ("Olmo2", _GROUPED),
    "cohere": ("Cohere", _GROUPED),
    "granite": ("Granite", _GROUPED),
    "smollm3": ("SmolLM3", _GROUPED),
    "gpt-oss": ("GptOss", {**_GROUPED, "num_local_experts": 4, "sliding_window": 8}),
    "deepseek-v3": (
        "DeepseekV3",
        {
            **COMMON,
            "num_key_value_heads": 4,
            "q_lora_rank": 16,
            "kv_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "n_routed_experts": 4,
            "n_group": 2,
            "topk_group": 1,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "first_k_dense_replace": 1,
        },
    ),
    "biogpt": ("BioGpt", COMMON),
    "xglm": (
        "XGLM",
        {"vocab_size": VOCABULARY, "d_model": WIDTH, "num_layers": 2, "attention_heads": 4, "ffn_dim": 48},
    ),
    "mamba": ("Mamba", {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": 2, "state_size": 8}),
    "mamba2": (
        "Mamba2",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": WIDTH,
            "num_hidden_layers": 2,
            "state_size": 8,
            "num_heads": 8,
            "head_dim": 8,
            "n_groups": 1,
            "chunk_size": 8,
        },
    ),
    "rwkv": (
        "Rwkv",
        {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": 2, "attention_hidden_size": WIDTH},
    ),
}
"""Name -> the class's beginning, and its configuration."""

ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", COMMON),
    "roberta": ("Roberta", {**COMMON, "pad_token_id": 1, "max_position_embeddings": 70}),
    "distilbert": (
        "DistilBert",
        {"vocab_size": VOCABULARY, "dim": WIDTH, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    ),
    "albert": ("Albert", {**COMMON, "embedding_size": 16}),
    "electra": ("Electra", {**COMMON, "embedding_size": 16}),
    "deberta-v2": ("DebertaV2", {**COMMON, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "mpnet": ("MPNet", {**COMMON, "max_position_embeddings": 70}),
    "squeezebert": ("SqueezeBert", {**COMMON, "embedding_size": WIDTH}),
    "convbert": ("ConvBert", {**COMMON, "embedding_size": WIDTH, "conv_kernel_size": 3}),
    "fnet": ("FNet", COMMON),
    "big-bird": ("BigBird", {**COMMON, "attention_type": "original_full"}),
    "longformer": ("Longformer", {**COMMON, "attention_window": [8, 8], "max_position_embeddings": 70}),
    "nystromformer": ("Nystromformer", {**COMMON, "segment_means_seq_len": 16, "num_landmarks": 4}),
    "xlnet": ("XLNetLMHead", {"vocab_size": VOCABULARY, "d_model": WIDTH, "n_layer": 2, "n_head": 4, "d_inner": 48}),
    "modernbert": ("ModernBert", {**COMMON, "global_attn_every_n_layers": 2, "local_attention": 8}),
    "funnel": (
        "Funnel",
        {
            "vocab_size": VOCABULARY,
            "block_sizes": [1, 1],
            "d_model": WIDTH,
            "n_head": 4,
            "d_head": 8,
            "d_inner": 48,
            "num_decoder_layers": 1,
        },
    ),
}

_SEQ2SEQ = {
    "vocab_size": VOCABULARY,
    "d_model": WIDTH,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
_T5 = {
    "vocab_size": VOCABULARY,
    "d_model": WIDTH,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
}
SEQ2SEQ: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("T5", _T5),
    "mt5": ("MT5", _T5),
    "long-t5": ("LongT5", {**_T5, "local_radius": 7}),
    "switch": (
        "SwitchTransformers",
        {**_T5, "num_experts": 4, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1},
    ),
    "bart": ("Bart", _SEQ2SEQ),
    "mbart": ("MBart", _SEQ2SEQ),
    "pegasus": ("Pegasus", _SEQ2SEQ),
    "marian": ("MarianMT", {**_SEQ2SEQ, "_config": "MarianConfig"}),
    "blenderbot": ("Blenderbot", _SEQ2SEQ),
    "m2m100": ("M2M100", _SEQ2SEQ),
    "led": (
        "LED",
        {
            **_SEQ2SEQ,
            "attention_window": 8,
            "max_encoder_position_embeddings": 64,
            "max_decoder_position_embeddings": 64,
        },
    ),
    "prophetnet": (
        "ProphetNet",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": WIDTH,
            "num_encoder_layers": 1,
            "num_decoder_layers": 1,
            "num_encoder_attention_heads": 4,
            "num_decoder_attention_heads": 4,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
            "decoder_start_token_id": 0,
        },
    ),
}


def tokens(batch: int, length: int = LENGTH) -> torch.Tensor:
    """[batch, length] of tokens."""
    return torch.randint(2, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(batch))


def make(beginning: str, ending: str, settings: dict[str, Any]) -> nn.Module:
    """A model of `transformers`: class and configuration by their names, every dropout off."""
    import transformers as hf

    settings = dict(settings)
    config = getattr(hf, settings.pop("_config", f"{beginning.removesuffix('LMHead')}Config"))(**settings)
    for name in DROPS:
        if isinstance(getattr(config, name, None), float):
            setattr(config, name, 0.0)
    if hasattr(config, "use_cache"):
        config.use_cache = False
    model: nn.Module = getattr(hf, f"{beginning}{ending}")(config)
    return model


def entries() -> Iterator[Entry]:
    """All of them."""
    for table, ending, inputs in (
        (DECODERS, "ForCausalLM", _alone),
        (ENCODERS, "ForMaskedLM", _masked),
        (SEQ2SEQ, "ForConditionalGeneration", _pair),
    ):
        for name, (beginning, settings) in table.items():
            end = {
                "gpt2": "LMHeadModel",
                "xlnet": "Model",
                "marian": "Model",
            }.get(name, ending)
            yield Entry(name, "transformers", _maker(beginning, end, settings), inputs)


def _maker(beginning: str, ending: str, settings: dict[str, Any]) -> Callable[[], nn.Module]:
    return lambda: make(beginning, ending, settings)


def _alone(batch: int) -> Inputs:
    return (), {"input_ids": tokens(batch)}


def _masked(batch: int) -> Inputs:
    return (), {"input_ids": tokens(batch)}


def _pair(batch: int) -> Inputs:
    return (), {"input_ids": tokens(batch), "decoder_input_ids": tokens(batch, 8)}
