"""BLOOM and Falcon: GPT-NeoX's modules under other names; a block of Falcon depends on its config."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from makebreak.architectures.base import Architecture, UnknownArchitecture

_QKV, _MLP = "self_attention.query_key_value", "mlp.dense_h_to_4h"


def _bloom(architecture: Architecture, config: Any) -> Architecture:
    """The same architecture, unless the residual stream is normalised."""
    if config.apply_residual_connection_post_layernorm:
        raise UnknownArchitecture(
            "apply_residual_connection_post_layernorm = true: this BLOOM adds to the normalised states, so "
            "that there is no residual stream; expected false"
        )
    return architecture


BLOOM = Architecture(
    model_types=("bloom",),
    blocks="transformer.h",
    embeddings=("transformer.word_embeddings", "transformer.word_embeddings_layernorm"),
    final_norm="transformer.ln_f",
    head="lm_head",
    sites={
        "hook_resid_pre": ("", "input"),
        "attn.hook_z": ("self_attention.dense", "input"),
        "hook_attn_out": ("self_attention.dense", "output"),
        "hook_resid_mid": ("post_attention_layernorm", "input"),
        "mlp.hook_in": ("mlp", "input"),
        "mlp.hook_pre": (_MLP, "output"),
        "mlp.hook_post": ("mlp.dense_4h_to_h", "input"),
        "hook_mlp_out": ("mlp.dense_4h_to_h", "output"),
        "hook_resid_post": ("", "output"),
    },
    matrices={
        "attn.W_Q": _QKV,
        "attn.W_K": _QKV,
        "attn.W_V": _QKV,
        "attn.W_O": "self_attention.dense",
        "mlp.W_in": _MLP,
        "mlp.W_out": "mlp.dense_4h_to_h",
    },
    parts={
        "attn": ("input_layernorm", "self_attention"),
        "mlp_in": ("post_attention_layernorm", _MLP),
        "mlp_out": ("mlp.dense_4h_to_h",),
    },
    norms={"input_layernorm": (_QKV,), "post_attention_layernorm": (_MLP,)},
    joint_by_head=True,
    normalises_embeddings=True,
    returns_tuples=True,
    adapt=_bloom,
)


def _falcon(architecture: Architecture, config: Any) -> Architecture:
    """Falcon of one config: its heads of keys and values, and whether attention and MLP are parallel."""
    if config.new_decoder_architecture:
        if not config.parallel_attn:
            raise UnknownArchitecture(
                "new_decoder_architecture without parallel_attn: no model of Falcon is built so"
            )
        architecture = replace(architecture, key_value_heads="num_kv_heads", joint_by_head=True)
    elif config.multi_query:
        architecture = replace(architecture, key_value_heads=1, joint_by_head=False)
    if not config.parallel_attn:
        return architecture
    sites = {site: where for site, where in architecture.sites.items() if site != "hook_resid_mid"}
    n_norms = config.num_ln_in_parallel_attn or (2 if config.new_decoder_architecture else 1)
    if n_norms == 2:
        parts = {"attn": ("ln_attn", "self_attention"), "mlp_in": ("ln_mlp", _MLP)}
        norms = {"ln_attn": (_QKV,), "ln_mlp": (_MLP,)}
    else:
        parts = {"attn": ("input_layernorm", "self_attention"), "mlp_in": (_MLP,)}
        norms = {"input_layernorm": (_QKV, _MLP)}
    return replace(architecture, sites=sites, parts={**architecture.parts, **parts}, norms=norms)


FALCON = replace(
    BLOOM,
    model_types=("falcon",),
    embeddings=("transformer.word_embeddings",),
    normalises_embeddings=False,
    joins_rows=True,
    adapt=_falcon,
)
