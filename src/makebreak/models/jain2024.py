"""The network of Jain et al. 2024 as a model of transformers (reference: the released minGPT variant).

It is GPT-2 but for three things. A block replaces the residual stream by its LayerNorm before attention and
MLP add to it, so that its MLP has no LayerNorm of its own; positions are fixed sines and cosines; and the
head is not tied to the embeddings. Their second LayerNorm of a block, which is never used and never trained,
does not exist here: 2,304 parameters fewer than in the released code at their size.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, GPT2Model
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP, GPT2Attention, GPT2PreTrainedModel

MODEL_TYPE = "jain2024"
"""Value of `config.model_type`."""
_BASE = 10_000.0


@no_type_check  # transformers makes its own constructor, which takes more than the fields
class Jain2024Config(GPT2Config):
    """Sizes of the network, by the names of GPT-2's config."""

    model_type = MODEL_TYPE


class SinusoidalPositions(nn.Module):
    """Fixed positions: the sine of position / 10,000^(2i / d) in dimension 2i, its cosine in 2i + 1."""

    like: Tensor
    """Empty; it has the precision of the weights."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.d_model = d_model
        self.register_buffer("like", torch.zeros(0), persistent=False)

    def forward(self, position_ids: Int[Tensor, "*batch pos"]) -> Float[Tensor, "*batch pos d_model"]:
        """The vector of every position."""
        precise = torch.float32 if position_ids.device.type == "mps" else torch.float64  # MPS has no other
        even = torch.arange(0, self.d_model, 2, device=position_ids.device, dtype=precise)
        angles = position_ids[..., None] * _BASE ** (-even / self.d_model)
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2).to(self.like)


class Jain2024Block(GradientCheckpointingLayer):
    """A block: x <- LN(x), x <- x + attention(x), x <- x + MLP(x)."""

    def __init__(self, config: Jain2024Config, layer_idx: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.attn = GPT2Attention(config, layer_idx=layer_idx)
        self.mlp = GPT2MLP(config.n_inner or 4 * config.hidden_size, config)

    def forward(
        self,
        hidden_states: Tensor,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        *_: Any,
        use_cache: bool | None = False,
        **options: Any,
    ) -> Tensor:
        """The residual stream after the block."""
        for name in ("encoder_hidden_states", "encoder_attention_mask"):
            options.pop(name, None)
        states = self.ln_1(hidden_states)
        attention, _ = self.attn(
            states,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            use_cache=use_cache,
            **options,
        )
        states = states + attention
        return states + self.mlp(states)


class Jain2024Model(GPT2Model):
    """The network without its head."""

    config_class = Jain2024Config
    _no_split_modules: ClassVar = ["Jain2024Block"]
    _can_record_outputs: ClassVar = {"hidden_states": Jain2024Block}

    def __init__(self, config: Jain2024Config) -> None:
        GPT2PreTrainedModel.__init__(self, config)  # GPT-2's own would make its blocks first
        self.embed_dim = config.hidden_size
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.wpe = SinusoidalPositions(config.hidden_size)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList([Jain2024Block(config, layer) for layer in range(config.num_hidden_layers)])
        self.ln_f = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.gradient_checkpointing = False
        self.post_init()
        for name, weight in self.named_parameters():
            if name.endswith("c_proj.weight"):  # transformers scales these in its own classes alone
                weight.data.div_(math.sqrt(2 * config.num_hidden_layers))


class Jain2024LMHeadModel(GPT2LMHeadModel):
    """The network with its head."""

    config_class = Jain2024Config
    _no_split_modules: ClassVar = ["Jain2024Block"]

    def __init__(self, config: Jain2024Config) -> None:
        GPT2PreTrainedModel.__init__(self, config)
        self.transformer = Jain2024Model(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()


AutoConfig.register(MODEL_TYPE, Jain2024Config)
AutoModelForCausalLM.register(Jain2024Config, Jain2024LMHeadModel)
