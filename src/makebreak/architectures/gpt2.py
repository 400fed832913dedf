"""GPT-2: weights stored as (d_in, d_out); queries, keys and values in one matrix."""

from __future__ import annotations

from makebreak.architectures.base import Architecture

GPT2 = Architecture(
    model_types=("gpt2",),
    blocks="transformer.h",
    embeddings=("transformer.wte", "transformer.wpe"),
    final_norm="transformer.ln_f",
    head="lm_head",
    sites={
        "hook_resid_pre": ("", "input"),
        "attn.hook_z": ("attn.c_proj", "input"),
        "hook_attn_out": ("attn.c_proj", "output"),
        "hook_resid_mid": ("ln_2", "input"),
        "mlp.hook_in": ("mlp", "input"),
        "mlp.hook_pre": ("mlp.c_fc", "output"),
        "mlp.hook_post": ("mlp.c_proj", "input"),
        "hook_mlp_out": ("mlp", "output"),
        "hook_resid_post": ("", "output"),
    },
    matrices={
        "attn.W_Q": "attn.c_attn",
        "attn.W_K": "attn.c_attn",
        "attn.W_V": "attn.c_attn",
        "attn.W_O": "attn.c_proj",
        "mlp.W_in": "mlp.c_fc",
        "mlp.W_out": "mlp.c_proj",
    },
    parts={"attn": ("ln_1", "attn"), "mlp_in": ("ln_2", "mlp.c_fc"), "mlp_out": ("mlp.c_proj",)},
    norms={"ln_1": ("attn.c_attn",), "ln_2": ("mlp.c_fc",)},
    stores_transposed=True,
)
