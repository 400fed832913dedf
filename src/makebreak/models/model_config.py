"""Sizes of small causal language models, and their creation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from makebreak.configs import check_positive
from makebreak.models.jain2024 import Jain2024Config, Jain2024LMHeadModel


@dataclass(frozen=True)
class ModelConfig:
    """Architecture and size of a causal language model; vocabulary and context length come from the world."""

    tag: ClassVar[str] = "ModelConfig"
    architecture: Literal["gpt2", "llama", "jain2024"] = "gpt2"
    """GPT-2 (`gelu_pytorch_tanh`, untied head), Llama, or the network of Jain et al. 2024."""
    n_layers: int = 3
    """Number of blocks."""
    n_heads: int = 4
    """Number of attention heads of each block."""
    d_model: int = 64
    """Width of the residual stream; each head has d_model / n_heads dimensions, an even number."""
    d_mlp: int = 256
    """Hidden units of each MLP."""

    def __post_init__(self) -> None:
        check_positive(n_layers=self.n_layers, n_heads=self.n_heads, d_model=self.d_model, d_mlp=self.d_mlp)
        if self.d_model % self.n_heads or (self.d_model // self.n_heads) % 2:
            raise ValueError(
                f"d_model = {self.d_model}, n_heads = {self.n_heads}: expected heads of equal, even width"
            )


MODEL_SIZES = {
    "tiny": ModelConfig(n_layers=2, n_heads=2, d_model=32, d_mlp=128),
    "mini": ModelConfig(),
    "mini-llama": ModelConfig("llama"),
    "jain": ModelConfig(n_layers=6, n_heads=6, d_model=192, d_mlp=768),
    "jain2024": ModelConfig("jain2024", n_layers=6, n_heads=6, d_model=192, d_mlp=768),
}
"""Named sizes; `jain2024` is the network of Jain et al. 2024 ('wrn2-cfg-mini'), `jain` has their sizes with
GPT-2's block in place of theirs."""


def create_model(config: ModelConfig, *, d_vocab: int, n_ctx: int, seed: int) -> PreTrainedModel:
    """A newly initialised float32 model with an untied head and no dropout, in training mode.

    Args:
        config: Architecture and size.
        d_vocab: Size of the vocabulary.
        n_ctx: Greatest length of a sequence in tokens.
        seed: Seed of the initialisation; the global generator is left as it is.

    Returns:
        A `GPT2LMHeadModel`, a `LlamaForCausalLM` or a `Jain2024LMHeadModel`.
    """
    special = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None, "tie_word_embeddings": False}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.architecture != "llama":
            kinds: dict[str, tuple[Any, Any]] = {
                "gpt2": (GPT2Config, GPT2LMHeadModel),
                "jain2024": (Jain2024Config, Jain2024LMHeadModel),
            }
            kind_of_config, kind = kinds[config.architecture]
            return kind(
                kind_of_config(
                    vocab_size=d_vocab,
                    n_positions=n_ctx,
                    n_embd=config.d_model,
                    n_layer=config.n_layers,
                    n_head=config.n_heads,
                    n_inner=config.d_mlp,
                    activation_function="gelu_pytorch_tanh",
                    resid_pdrop=0.0,
                    embd_pdrop=0.0,
                    attn_pdrop=0.0,
                    **special,
                )
            ).train()
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=d_vocab,
                max_position_embeddings=n_ctx,
                hidden_size=config.d_model,
                intermediate_size=config.d_mlp,
                num_hidden_layers=config.n_layers,
                num_attention_heads=config.n_heads,
                **special,
            )
        ).train()
