"""Tiny random models of every architecture, with an untied head and no matrix of attention that is square."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

D_VOCAB, N_CTX = 20, 12
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
GROUPED = {"intermediate_size": 40, "num_key_value_heads": 1, "head_dim": 6}
"""Sizes by which no matrix of attention is square."""
_GROUPED = {"intermediate_size": 40, "num_key_value_heads": 1}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
_MIXTRAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
_NEOX = {"intermediate_size": 40}
_STABLE = _GROUPED | {"partial_rotary_factor": 1.0}
_FALCON = {"bias": True, "ffn_hidden_size": 40}
OWN_SIZES: dict[str, dict[str, Any]] = {
    "bloom": {},
    "falcon": _FALCON,
    "gpt2": {"n_inner": 40},
    "gpt_neox": _NEOX,
    "gpt_oss": GROUPED | _MIXTRAL,
    "jain2024": {"n_inner": 40},
    "gptj": {"n_inner": 40, "rotary_dim": 4},
    "granite": _GROUPED | {"residual_multiplier": 0.4, "logits_scaling": 2.0, "embedding_multiplier": 3.0},
    "mixtral": GROUPED | _MIXTRAL,
    "olmo2": _GROUPED,
    "olmo3": _GROUPED,
    "olmoe": _GROUPED | {"num_experts": 4, "num_experts_per_tok": 2},
    "opt": {"ffn_dim": 40, "word_embed_proj_dim": 16},
    "phi3": _GROUPED,
    "qwen2_moe": _GROUPED | _EXPERTS | {"shared_expert_intermediate_size": 8},
    "qwen3_moe": GROUPED | _EXPERTS,
    "stablelm": _STABLE,
    "starcoder2": _GROUPED | {"use_bias": True},
}
"""Sizes of families that lack a setting of `GROUPED`, or have one of their own."""
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon 40B": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "num_attention_heads": 4}),
    "falcon 11B": (
        "falcon",
        {
            "new_decoder_architecture": True,
            "num_kv_heads": 2,
            "num_attention_heads": 4,
            "num_ln_in_parallel_attn": 1,
        },
    ),
    "falcon-rw": ("falcon", {"parallel_attn": False, "multi_query": False, "alibi": True}),
    "stablelm parallel": ("stablelm", {"use_parallel_residual": True, "qk_layernorm": True}),
    "qwen3_moe with a dense MLP": ("qwen3_moe", {"mlp_only_layers": [0]}),
}
"""Configs of one family that have other modules."""
NO_IDS = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))


def tiny_config(name: str, **settings: Any) -> Any:
    """The config of a model type, or of a variant, with settings in place of the usual ones."""
    model_type, variant = VARIANTS.get(name, (name, {}))
    sizes = SIZES | {"vocab_size": D_VOCAB, "max_position_embeddings": N_CTX, "tie_word_embeddings": False}
    sizes |= OWN_SIZES.get(model_type, GROUPED) | NO_IDS | variant | settings
    return AutoConfig.for_model(model_type, **sizes)


def tiny_model(name: str, **settings: Any) -> PreTrainedModel:
    """A random model with norms and biases unlike their initial values."""
    config = tiny_config(name, **settings)
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model
