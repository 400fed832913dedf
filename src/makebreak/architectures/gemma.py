"""Gemma: Llama's modules with gains of 1 + weight; from Gemma 2 on blocks normalise what they write too."""

from __future__ import annotations

from dataclasses import replace

from makebreak.architectures.llama import LLAMA

GEMMA = replace(LLAMA, model_types=("gemma",), gain_offset=1.0)
GEMMA2 = replace(
    GEMMA,
    model_types=("gemma2",),
    sites={
        **LLAMA.sites,
        "hook_attn_out": ("post_attention_layernorm", "output"),
        "hook_resid_mid": ("pre_feedforward_layernorm", "input"),
        "hook_mlp_out": ("post_feedforward_layernorm", "output"),
    },
    parts={
        "attn": ("input_layernorm", "self_attn", "post_attention_layernorm"),
        "mlp_in": ("pre_feedforward_layernorm", "mlp.up_proj"),
        "mlp_gate": ("mlp.gate_proj",),
        "mlp_out": ("mlp.down_proj", "post_feedforward_layernorm"),
    },
    norms={
        "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "post_attention_layernorm": (),
        "pre_feedforward_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
        "post_feedforward_layernorm": (),
    },
    normalises_writes=True,
)
GEMMA3 = replace(
    GEMMA2,
    model_types=("gemma3_text",),
    norms={**GEMMA2.norms, "self_attn.q_norm": (), "self_attn.k_norm": ()},
)
