"""Mixtures of experts: Mixtral, Qwen 2 and 3 MoE, OLMoE and gpt-oss.

The modules around the experts are Llama's. The matrices of an MLP differ between experts, so that none has a
name: sites are those of the residual stream, of attention, and the input and the output of the whole MLP.
"""

from __future__ import annotations

from dataclasses import replace

from makebreak.architectures.llama import LLAMA

_OF_ONE_MLP = ("mlp.hook_pre", "mlp.hook_pre_linear", "mlp.hook_post")
MIXTRAL = replace(
    LLAMA,
    model_types=("mixtral", "qwen2_moe", "gpt_oss"),
    sites={site: where for site, where in LLAMA.sites.items() if site not in _OF_ONE_MLP},
    matrices={name: module for name, module in LLAMA.matrices.items() if name.startswith("attn.")},
    parts={"attn": ("input_layernorm", "self_attn"), "mlp": ("post_attention_layernorm", "mlp")},
    norms={**LLAMA.norms, "post_attention_layernorm": ()},
    has_experts=True,
)
QWEN3_MOE = replace(
    MIXTRAL,
    model_types=("qwen3_moe", "olmoe"),
    norms={**MIXTRAL.norms, "self_attn.q_norm": (), "self_attn.k_norm": ()},
)
"""Qwen 3 MoE and OLMoE normalise queries and keys."""
