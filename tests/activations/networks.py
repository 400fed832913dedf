"""Tiny networks of every architecture that has a table of sites."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from makebreak.models import ModelConfig, create_model

D_VOCAB, N_CTX = 20, 12
_SIZES = {"hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
_SIZES |= {"vocab_size": D_VOCAB, "max_position_embeddings": N_CTX, "use_cache": True}
_IDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
N_SITES = {
    "gpt2": 9,
    "jain2024": 9,
    "llama": 10,
    "qwen2": 10,
    "qwen3": 10,
    "gemma3": 10,
    "neox": 8,
}  # of a layer
ARCHITECTURES = list(N_SITES)
LENS_ARCHITECTURES = [name for name in ARCHITECTURES if name != "jain2024"]
"""Architectures that TransformerLens knows too."""


def network(architecture: str) -> PreTrainedModel:
    """A new copy of the same tiny model, with LayerNorms and biases perturbed from their initial values."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        grouped = _SIZES | _IDS | {"num_key_value_heads": 1, "head_dim": 8}
        if architecture == "qwen3":
            model = Qwen3ForCausalLM(Qwen3Config(**grouped))
        elif architecture == "qwen2":
            model = Qwen2ForCausalLM(Qwen2Config(**(_SIZES | _IDS | {"num_key_value_heads": 1})))
        elif architecture == "gemma3":
            model = Gemma3ForCausalLM(Gemma3TextConfig(**grouped, sliding_window=N_CTX))
        elif architecture == "neox":
            model = GPTNeoXForCausalLM(GPTNeoXConfig(**_SIZES, **_IDS))
        else:
            sizes = {"n_layers": 2, "n_heads": 2, "d_model": 16, "d_mlp": 40}
            config = ModelConfig(architecture, **sizes)  # type: ignore[arg-type]
            model = create_model(config, d_vocab=D_VOCAB, n_ctx=N_CTX, seed=0)
    model.eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def tokens() -> Tensor:
    return torch.randint(0, D_VOCAB, (5, N_CTX), generator=torch.Generator().manual_seed(1))


def n_hooks(model: PreTrainedModel) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
