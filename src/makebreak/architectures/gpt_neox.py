"""GPT-NeoX (Pythia): attention and MLP in parallel, both on the residual stream before the block.

It has no `hook_resid_mid` therefore. Queries, keys and values are in one matrix, head by head.
"""

from __future__ import annotations

from makebreak.architectures.base import Architecture

GPT_NEOX = Architecture(
    model_types=("gpt_neox",),
    blocks="gpt_neox.layers",
    embeddings=("gpt_neox.embed_in",),
    final_norm="gpt_neox.final_layer_norm",
    head="lm_head",
    sites={
        "hook_resid_pre": ("", "input"),
        "attn.hook_z": ("attention.dense", "input"),
        "hook_attn_out": ("attention.dense", "output"),
        "mlp.hook_in": ("mlp", "input"),
        "mlp.hook_pre": ("mlp.dense_h_to_4h", "output"),
        "mlp.hook_post": ("mlp.dense_4h_to_h", "input"),
        "hook_mlp_out": ("mlp", "output"),
        "hook_resid_post": ("", "output"),
    },
    matrices={
        "attn.W_Q": "attention.query_key_value",
        "attn.W_K": "attention.query_key_value",
        "attn.W_V": "attention.query_key_value",
        "attn.W_O": "attention.dense",
        "mlp.W_in": "mlp.dense_h_to_4h",
        "mlp.W_out": "mlp.dense_4h_to_h",
    },
    parts={
        "attn": ("input_layernorm", "attention"),
        "mlp_in": ("post_attention_layernorm", "mlp.dense_h_to_4h"),
        "mlp_out": ("mlp.dense_4h_to_h",),
    },
    norms={
        "input_layernorm": ("attention.query_key_value",),
        "post_attention_layernorm": ("mlp.dense_h_to_4h",),
    },
    joint_by_head=True,
)
