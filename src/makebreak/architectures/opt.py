"""OPT: an MLP without a module of its own, whose rows are those of all sequences joined."""

from __future__ import annotations

from typing import Any

from makebreak.architectures.base import Architecture, UnknownArchitecture


def _check_norms(architecture: Architecture, config: Any) -> Architecture:
    """The same architecture, unless norms stand on the residual stream itself, as in OPT-350m."""
    if not config.do_layer_norm_before:
        raise UnknownArchitecture(
            "do_layer_norm_before = false: this OPT normalises the residual stream itself, so that what "
            "attention and MLP add to it has no site; expected an OPT with norms before attention and MLP"
        )
    return architecture


OPT = Architecture(
    model_types=("opt",),
    blocks="model.decoder.layers",
    embeddings=("model.decoder.embed_tokens", "model.decoder.embed_positions"),
    final_norm="model.decoder.final_layer_norm",
    head="lm_head",
    sites={
        "hook_resid_pre": ("", "input"),
        "attn.hook_z": ("self_attn.out_proj", "input"),
        "hook_attn_out": ("self_attn.out_proj", "output"),
        "hook_resid_mid": ("final_layer_norm", "input"),
        "mlp.hook_in": ("fc1", "input"),
        "mlp.hook_pre": ("fc1", "output"),
        "mlp.hook_post": ("fc2", "input"),
        "hook_mlp_out": ("fc2", "output"),
        "hook_resid_post": ("", "output"),
    },
    matrices={
        "attn.W_Q": "self_attn.q_proj",
        "attn.W_K": "self_attn.k_proj",
        "attn.W_V": "self_attn.v_proj",
        "attn.W_O": "self_attn.out_proj",
        "mlp.W_in": "fc1",
        "mlp.W_out": "fc2",
    },
    parts={
        "attn": ("self_attn_layer_norm", "self_attn"),
        "mlp_in": ("final_layer_norm", "fc1"),
        "mlp_out": ("fc2",),
    },
    norms={
        "self_attn_layer_norm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "final_layer_norm": ("fc1",),
    },
    joins_rows=True,
    adapt=_check_norms,
)
