"""Tiny networks of every layout that has a table of sites."""

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

from makebreak.models import ModelConfig, create

D_VOCAB, N_CTX = 20, 12
_SIZES = {"hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
_SIZES |= {"vocab_size": D_VOCAB, "max_position_embeddings": N_CTX, "use_cache": True}
_IDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
N_SITES = {"gpt2": 9, "llama": 10, "qwen2": 10, "qwen3": 10, "gemma3": 10, "neox": 8}  # of a layer
ARCHITECTURES = list(N_SITES)


def network(architecture: str) -> PreTrainedModel:
    """The same tiny model at each call, in a copy of its own, LayerNorms and biases away from where they start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        grouped = _SIZES | _IDS | {"num_key_value_heads": 1, "head_dim": 8}
        if architecture == "qwen3":
            made = Qwen3ForCausalLM(Qwen3Config(**grouped))
        elif architecture == "qwen2":
            made = Qwen2ForCausalLM(Qwen2Config(**(_SIZES | _IDS | {"num_key_value_heads": 1})))
        elif architecture == "gemma3":
            made = Gemma3ForCausalLM(Gemma3TextConfig(**grouped, sliding_window=N_CTX))
        elif architecture == "neox":
            made = GPTNeoXForCausalLM(GPTNeoXConfig(**_SIZES, **_IDS))
        else:
            sizes = {"n_layers": 2, "n_heads": 2, "d_model": 16, "d_mlp": 40}
            made = create(ModelConfig(architecture, **sizes), d_vocab=D_VOCAB, n_ctx=N_CTX, seed=0)  # type: ignore[arg-type]
    made.eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return made


def tokens() -> Tensor:
    return torch.randint(0, D_VOCAB, (5, N_CTX), generator=torch.Generator().manual_seed(1))


def n_hooks(model: PreTrainedModel) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
