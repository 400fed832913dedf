"""GPT-J: attention and MLP in parallel, both on one norm of the residual stream before the block."""

from __future__ import annotations

from makebreak.architectures.base import Architecture

GPTJ = Architecture(
    model_types=("gptj",),
    blocks="transformer.h",
    embeddings=("transformer.wte",),
    final_norm="transformer.ln_f",
    head="lm_head",
    sites={
        "hook_resid_pre": ("", "input"),
        "attn.hook_z": ("attn.out_proj", "input"),
        "hook_attn_out": ("attn.out_proj", "output"),
        "mlp.hook_in": ("mlp", "input"),
        "mlp.hook_pre": ("mlp.fc_in", "output"),
        "mlp.hook_post": ("mlp.fc_out", "input"),
        "hook_mlp_out": ("mlp", "output"),
        "hook_resid_post": ("", "output"),
    },
    matrices={
        "attn.W_Q": "attn.q_proj",
        "attn.W_K": "attn.k_proj",
        "attn.W_V": "attn.v_proj",
        "attn.W_O": "attn.out_proj",
        "mlp.W_in": "mlp.fc_in",
        "mlp.W_out": "mlp.fc_out",
    },
    parts={"attn": ("ln_1", "attn"), "mlp_in": ("mlp.fc_in",), "mlp_out": ("mlp.fc_out",)},
    norms={"ln_1": ("attn.q_proj", "attn.k_proj", "attn.v_proj", "mlp.fc_in")},
    returns_tuples=True,
)
