"""A GPT written by hand and its training step: the oracle of training's speed and of its numbers.

It uses fused causal attention and fused AdamW, and computes the logits of all positions of a sequence.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IGNORED = -100


class Attention(nn.Module):
    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        batch, pos, d_model = x.shape
        q, k, v = self.qkv(x).view(batch, pos, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        values = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(values.transpose(1, 2).reshape(batch, pos, d_model))


class Block(nn.Module):
    def __init__(self, d_model: int, n_heads: int, d_mlp: int) -> None:
        super().__init__()
        self.ln_1, self.attention = nn.LayerNorm(d_model), Attention(d_model, n_heads)
        self.ln_2 = nn.LayerNorm(d_model)
        self.mlp = nn.Sequential(
            nn.Linear(d_model, d_mlp), nn.GELU(approximate="tanh"), nn.Linear(d_mlp, d_model)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class PlainGPT(nn.Module):
    """(batch, pos) ids → (batch, pos, d_vocab) logits."""

    def __init__(
        self, *, d_vocab: int, n_ctx: int, n_layers: int, n_heads: int, d_model: int, d_mlp: int
    ) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(d_vocab, d_model), nn.Embedding(n_ctx, d_model)
        self.blocks = nn.ModuleList(Block(d_model, n_heads, d_mlp) for _ in range(n_layers))
        self.ln_f, self.head = nn.LayerNorm(d_model), nn.Linear(d_model, d_vocab, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln_f(x))


def inputs_and_targets(tokens: Tensor, supervised: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and targets of next-token prediction; targets that are not supervised are IGNORED."""
    return tokens[:, :-1], tokens[:, 1:].masked_fill(~supervised[:, 1:], IGNORED)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


def adamw(model: nn.Module) -> torch.optim.AdamW:
    """Betas (0.9, 0.95); decay 1e-4 on the weights of linear layers alone."""
    decayed = [m.weight for m in model.modules() if isinstance(m, nn.Linear)]
    others = [p for p in model.parameters() if not any(p is weight for weight in decayed)]
    groups = [{"params": decayed, "weight_decay": 1e-4}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)


def train_step(
    model: nn.Module, optimiser: torch.optim.AdamW, inputs: tuple[Tensor, ...], targets: Tensor
) -> float:
    """One step, clipped to norm 1; the loss before it. `inputs` are the arguments of the model."""
    loss = cross_entropy(model(*inputs), targets)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return loss.item()
