"""Llama, and the families that keep its modules: Mistral, SmolLM3, Qwen 2 and 3, and Granite."""

from __future__ import annotations

from dataclasses import replace

from makebreak.architectures.base import Architecture

LLAMA = Architecture(
    model_types=("llama", "mistral", "ministral", "smollm3", "qwen2", "seed_oss"),
    blocks="model.layers",
    embeddings=("model.embed_tokens",),
    final_norm="model.norm",
    head="lm_head",
    sites={
        "hook_resid_pre": ("", "input"),
        "attn.hook_z": ("self_attn.o_proj", "input"),
        "hook_attn_out": ("self_attn.o_proj", "output"),
        "hook_resid_mid": ("post_attention_layernorm", "input"),
        "mlp.hook_in": ("mlp", "input"),
        "mlp.hook_pre": ("mlp.gate_proj", "output"),
        "mlp.hook_pre_linear": ("mlp.up_proj", "output"),
        "mlp.hook_post": ("mlp.down_proj", "input"),
        "hook_mlp_out": ("mlp", "output"),
        "hook_resid_post": ("", "output"),
    },
    matrices={
        "attn.W_Q": "self_attn.q_proj",
        "attn.W_K": "self_attn.k_proj",
        "attn.W_V": "self_attn.v_proj",
        "attn.W_O": "self_attn.o_proj",
        "mlp.W_in": "mlp.up_proj",
        "mlp.W_gate": "mlp.gate_proj",
        "mlp.W_out": "mlp.down_proj",
    },
    parts={
        "attn": ("input_layernorm", "self_attn"),
        "mlp_in": ("post_attention_layernorm", "mlp.up_proj"),
        "mlp_gate": ("mlp.gate_proj",),
        "mlp_out": ("mlp.down_proj",),
    },
    norms={
        "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
    },
)
QWEN3 = replace(
    LLAMA, model_types=("qwen3",), norms={**LLAMA.norms, "self_attn.q_norm": (), "self_attn.k_norm": ()}
)
"""Qwen 3 normalises queries and keys."""
GRANITE = replace(LLAMA, model_types=("granite",), write_scale="residual_multiplier")
"""Granite multiplies what attention and MLP write."""
