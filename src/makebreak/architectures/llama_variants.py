"""Families near Llama: Phi-3 (fused matrices), StableLM and StarCoder 2 (LayerNorm), OLMo 2 and 3."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from makebreak.architectures.base import Architecture
from makebreak.architectures.gemma import GEMMA2
from makebreak.architectures.llama import LLAMA

_FUSED_SITES = ("mlp.hook_pre", "mlp.hook_pre_linear")
PHI3 = replace(
    LLAMA,
    model_types=("phi3",),
    sites={site: where for site, where in LLAMA.sites.items() if site not in _FUSED_SITES},
    matrices={
        "attn.W_Q": "self_attn.qkv_proj",
        "attn.W_K": "self_attn.qkv_proj",
        "attn.W_V": "self_attn.qkv_proj",
        "attn.W_O": "self_attn.o_proj",
        "mlp.W_gate": "mlp.gate_up_proj",
        "mlp.W_in": "mlp.gate_up_proj",
        "mlp.W_out": "mlp.down_proj",
    },
    parts={
        "attn": ("input_layernorm", "self_attn"),
        "mlp_in": ("post_attention_layernorm", "mlp.gate_up_proj"),
        "mlp_out": ("mlp.down_proj",),
    },
    norms={
        "input_layernorm": ("self_attn.qkv_proj",),
        "post_attention_layernorm": ("mlp.gate_up_proj",),
    },
)
STARCODER2 = replace(
    LLAMA,
    model_types=("starcoder2",),
    sites={
        **{site: where for site, where in LLAMA.sites.items() if site != "mlp.hook_pre_linear"},
        "mlp.hook_pre": ("mlp.c_fc", "output"),
        "mlp.hook_post": ("mlp.c_proj", "input"),
    },
    matrices={
        **{name: module for name, module in LLAMA.matrices.items() if name.startswith("attn.")},
        "mlp.W_in": "mlp.c_fc",
        "mlp.W_out": "mlp.c_proj",
    },
    parts={
        "attn": ("input_layernorm", "self_attn"),
        "mlp_in": ("post_attention_layernorm", "mlp.c_fc"),
        "mlp_out": ("mlp.c_proj",),
    },
    norms={**LLAMA.norms, "post_attention_layernorm": ("mlp.c_fc",)},
)
OLMO2 = replace(
    GEMMA2,
    model_types=("olmo2", "olmo3"),
    sites={**GEMMA2.sites, "hook_resid_mid": ("mlp", "input")},
    parts={
        "attn": ("self_attn", "post_attention_layernorm"),
        "mlp_in": ("mlp.up_proj",),
        "mlp_gate": ("mlp.gate_proj",),
        "mlp_out": ("mlp.down_proj", "post_feedforward_layernorm"),
    },
    norms={
        "self_attn.q_norm": (),
        "self_attn.k_norm": (),
        "post_attention_layernorm": (),
        "post_feedforward_layernorm": (),
    },
    gain_offset=0.0,
)
"""OLMo 2 and 3: attention and MLP read the residual stream as it is; what they write is normalised."""


def _stablelm(architecture: Architecture, config: Any) -> Architecture:
    """StableLM of one config: attention and MLP may be parallel, and queries and keys be normalised."""
    if config.use_parallel_residual:
        mlp = architecture.norms["post_attention_layernorm"]
        architecture = replace(
            architecture,
            sites={site: where for site, where in architecture.sites.items() if site != "hook_resid_mid"},
            parts={**architecture.parts, "mlp_in": ("mlp.up_proj",)},
            norms={"input_layernorm": (*architecture.norms["input_layernorm"], *mlp)},
        )
    if not config.qk_layernorm:
        return architecture
    heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads}
    by_head = [f"self_attn.{x}_layernorm.norms.{head}" for x, n in heads.items() for head in range(n)]
    return replace(architecture, norms={**architecture.norms, **dict.fromkeys(by_head, ())})


STABLELM = replace(LLAMA, model_types=("stablelm",), adapt=_stablelm)
