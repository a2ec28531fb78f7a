"""Tiny random models of every causal architecture that transformers registers, made of their configuration classes.

Sizes are shrunk by the names of fields; what a class needs beyond that is in ``_OVERRIDES``. Windows are 8 and topics
such as two kinds of layers stay: every kind of layer that a class has by default is there once.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCAB = 97
WINDOW = 8
ARCHITECTURES = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

_SIZES: tuple[tuple[str, int], ...] = (
    (r"vocab_size|unpadded_vocab_size|vocab_size_per_layer_input|char_vocab_size", VOCAB),
    (r"num_hidden_layers|n_layers?|num_layers|(num_)?(decoder|encoder)_layers|num_blocks", 2),
    (r"hidden_size|n_embd|d_model|dim_model|embed_dim|word_embed_proj_dim|embedding_size|emb_dim|lru_width", 32),
    (r"residual_dim|rnn_hidden_size|attention_hidden_size|embedding_dim", 32),
    (r"(\w+_)?intermediate_size(_mlp)?|n_inner|(\w+_)?ffn_hidden_size|d_inner|dim_ff|(\w+_)?ffn_dim", 64),
    (r"feed_forward_size|block_ff_dim", 64),
    (r"(num_)?((decoder|encoder)_)?(attention_)?heads|num_attention_heads|n_heads?|index_n_heads", 4),
    (r"num_key_value_heads|multi_query_group_num|num_kv_heads|n_kv_heads", 2),
    (r"head_dim|attention_head_dim|global_head_dim|attention_head_size|kv_channels|qk_(nope|rope)_head_dim", 8),
    (r"v_head_dim|linear_(key|value)_head_dim|index_head_dim|mamba_d_head|mamba_head_dim|global_head_dim", 8),
    (r"kv_lora_rank|q_lora_rank|o_lora_rank", 16),
    (r"linear_num_(key|value)_heads", 4),
    (r"num_experts|num_local_experts|n_routed_experts|moe_num_experts", 4),
    (r"num_experts_per_tok|moe_topk|top_k_experts|moe_k|num_experts_per_token", 2),
    (r"sliding_window(_size)?|attention_chunk_size|attention_window_size|window_size|keep_window_size", WINDOW),
    (r"index_topk", WINDOW),
    (r"max_position_embeddings|n_positions|n_ctx|max_seq_len|max_sequence_length|max_target_positions", 128),
    (r"floor_scale", 4),
)
_PATTERNS = [(re.compile(pattern), size) for pattern, size in _SIZES]

_DECODER = {"is_decoder": True, "pad_token_id": 2}
_LATENT = {"num_key_value_heads": 4}
_WIDE = {
    "num_key_value_heads": 4, "head_dim": 16, "swa_num_key_value_heads": 4, "swa_num_attention_heads": 4,
    "swa_head_dim": 16, "swa_qk_nope_head_dim": 8, "swa_qk_rope_head_dim": 8, "swa_v_head_dim": 8,
    "swa_q_lora_rank": 16, "swa_kv_lora_rank": 16,
}  # fmt: skip
_INDEXED = {
    "layer_types": ["linear_attention", "indexed_attention"], "num_hidden_layers": 2, "indexer_n_heads": 4,
    "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": WINDOW, "indexer_compress_ratio": 2,
}  # fmt: skip
_OVERRIDES: dict[str, dict[str, Any]] = {
    "axk1": {"num_key_value_heads": 4, "n_group": 1, "topk_group": 1, "n_routed_experts": 8},
    "axk2": _LATENT, "deepseek_v2": {"num_key_value_heads": 4, "num_experts_per_tok": 2},
    "deepseek_v3": _LATENT, "deepseek_v32": _LATENT,
    "glm4_moe_lite": _LATENT, "glm_moe_dsa": _LATENT, "longcat_flash": _LATENT, "minicpm3": _LATENT, "youtu": _LATENT,
    "dots3_note_text": _WIDE, "qwen4_exp_text": _INDEXED,
    "qwen4_exp": {"text_config": _INDEXED},
    "bailing_hybrid": _LATENT, "kimi_linear": {"num_key_value_heads": 4, "short_conv_kernel_size": 4},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": 10000.0}
                            for kind in ("sliding_attention", "full_attention")},
    },
    "dbrx": {"attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0},
             "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 32}},
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 16, "attn_layer_indices": [1]},
    "codegen": {"rotary_dim": 4}, "gptj": {"rotary_dim": 4},
    "dots1": {"head_dim": 8, "moe_intermediate_size": 32, "n_shared_experts": 1, "n_routed_experts": 4,
              "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64, "mamba_d_state": 16,
                  "mamba_chunk_size": 8, "lm_head_multiplier": 0.25},
    "gemma3n_text": {"num_kv_shared_layers": 0, "layer_types": ["sliding_attention", "full_attention"]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "granite": {"logits_scaling": 8.0}, "granitemoe": {"logits_scaling": 8.0},
    "granitemoeshared": {"logits_scaling": 8.0}, "granite_swa": {"logits_scaling": 8.0},
    "granitemoe_swa": {"logits_scaling": 8.0}, "hyperclovax": {"logits_scaling": 0.25},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"], "mamba_n_heads": 8, "mamba_d_head": 8,
                         "mamba_d_state": 16, "logits_scaling": 8.0},
    "hunyuan_v1_dense": {"head_dim": 8}, "hunyuan_v1_moe": {"head_dim": 8}, "ministral": {"head_dim": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4, "mamba_dt_rank": 4,
              "layer_types": None, "num_hidden_layers": 2},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 16, "n_groups": 1, "chunk_size": 8},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
    "nemotron_h": {"layers_block_type": ["mamba", "attention", "mlp"], "mamba_num_heads": 8, "mamba_head_dim": 8,
                   "ssm_state_size": 16, "n_groups": 1, "chunk_size": 8},
    "qwen2": {"max_window_layers": 1, "layer_types": None}, "qwen3": {"max_window_layers": 1, "layer_types": None},
    "qwen2_moe": {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1, "layer_types": None},
    "qwen3_moe": {"max_window_layers": 1},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "num_hidden_layers": 2},
    "modernbert-decoder": {"pad_token_id": 2, "local_attention": WINDOW},
    "reformer": {"is_decoder": True, "pad_token_id": 2, "axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 16],
                 "attn_layers": ["local", "lsh"], "attention_head_size": 8, "lsh_attn_chunk_length": 16,
                 "local_attn_chunk_length": 16, "hash_seed": 0, "num_buckets": 4},
    "zamba": {"num_hidden_layers": 4, "layer_types": None, "layers_block_type": ["mamba", "hybrid"] * 2,
              "mamba_d_state": 4, "mamba_dt_rank": 4, "attention_head_dim": 16, "attention_hidden_size": 64,
              "n_mamba_heads": 2},
    "zamba2": {"num_hidden_layers": 3, "layer_types": ["mamba", "mamba", "hybrid"], "hybrid_layer_ids": [2],
               "mamba_d_state": 16, "n_mamba_heads": 8, "mamba_headdim": 8, "mamba_ngroups": 1, "chunk_size": 8,
               "num_mem_blocks": 1, "attention_head_dim": 16, "attention_hidden_size": 64},
    **{name: _DECODER for name in ("bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra",
                                   "ernie", "megatron-bert", "rembert", "roberta", "roberta-prelayernorm", "roc_bert",
                                   "roformer", "xlm-roberta", "xlm-roberta-xl")},
    "prophetnet": {"pad_token_id": 2, "is_decoder": True}, "xlm": {"pad_token_id": 2, "causal": True},
    "xmod": {**_DECODER, "languages": ["en_XX"], "default_language": "en_XX"},
}  # fmt: skip


def _shrunk(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields whose sizes are too large, with small ones; nested configurations too."""
    small: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict) and name.endswith("_config"):
            small[name] = _shrunk(value)
        elif type(value) is int:
            for pattern, size in _PATTERNS:
                if pattern.fullmatch(name) and value > size:
                    small[name] = size
    if "sliding_window" in fields and fields["sliding_window"] is None:
        small |= {"sliding_window": WINDOW} | ({"use_sliding_window": True} if "use_sliding_window" in fields else {})
    kinds = list(dict.fromkeys(fields.get("layer_types") or ()))
    if kinds:
        small["layer_types"] = (kinds * 2)[: max(2, len(kinds))]
        small["num_hidden_layers"] = len(small["layer_types"])
    return small


def tiny_config(name: str, **changes: Any) -> Any:
    """The configuration of a tiny model of an architecture."""
    kind = CONFIG_MAPPING[name]
    fields = kind().to_dict()
    small = _shrunk(fields)
    for field in fields:
        if field.endswith("_token_id"):
            small[field] = {"pad_token_id": None, "bos_token_id": 0}.get(field, 1)
    made = {**small, **_OVERRIDES.get(name, {}), **changes}
    for field, inner in made.items():
        if isinstance(inner, dict) and isinstance(small.get(field), dict):
            made[field] = small[field] | inner
    return kind(**{field: value for field, value in made.items() if field != "layer_types" or value is not None})


def tiny_model(name: str, scale: float = 8.0, **changes: Any) -> PreTrainedModel:
    """A tiny random model whose matrices are scaled up, so that what is left out shows in its logits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(tiny_config(name, **changes), dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale if parameter.ndim > 1 else 1.0)
    return model
