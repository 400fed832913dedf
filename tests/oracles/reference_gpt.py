"""A model of the shape that Jain et al. 2024 released, written from its description: the reference for speed.

Every block replaces the residual stream by its LayerNorm, x ← LN(x), then adds attention and an MLP without a
norm of its own; positions are sinusoids; attention is an explicit softmax under a dense mask that comes with
every sample.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class MaskedAttention(nn.Module):
    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.q, self.k, self.v, self.out = (nn.Linear(d_model, d_model) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """The mask is (batch, pos, pos), 1 where a query (row) may attend to a key (column)."""
        q, k, v = (
            layer(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        pattern = scores.masked_fill(mask[:, None] == 0, -math.inf).softmax(dim=-1)
        return self.out((pattern @ v).transpose(1, 2).flatten(-2))


class NormReplacingBlock(nn.Module):
    def __init__(self, d_model: int, n_heads: int, d_mlp: int) -> None:
        super().__init__()
        self.ln_1, self.attention = nn.LayerNorm(d_model), MaskedAttention(d_model, n_heads)
        self.mlp = nn.Sequential(
            nn.Linear(d_model, d_mlp), nn.GELU(approximate="tanh"), nn.Linear(d_mlp, d_model)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.ln_1(x)
        x = x + self.attention(x, mask)
        return x + self.mlp(x)


class ReferenceGPT(nn.Module):
    """(batch, pos) ids and (batch, pos, pos) mask → (batch, pos, d_vocab) logits."""

    position: Tensor

    def __init__(
        self, *, d_vocab: int, n_ctx: int, n_layers: int, n_heads: int, d_model: int, d_mlp: int
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(d_vocab, d_model)
        self.register_buffer("position", sinusoids(n_ctx, d_model))
        self.blocks = nn.ModuleList(NormReplacingBlock(d_model, n_heads, d_mlp) for _ in range(n_layers))
        self.ln_f, self.head = nn.LayerNorm(d_model), nn.Linear(d_model, d_vocab, bias=False)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        x = self.token(tokens) + self.position[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.ln_f(x))


def sinusoids(n_ctx: int, d_model: int) -> Tensor:
    """(n_ctx, d_model): sin of pos / 10000^(i / d_model) at even i, cos of the same at i + 1."""
    angle = torch.arange(n_ctx)[:, None] / 10_000 ** (torch.arange(0, d_model, 2) / d_model)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def dense_masks(n: int, pos: int) -> Tensor:
    """(n, pos, pos) floats, causal: one for every sample, as they come out of the data loader."""
    return torch.ones(pos, pos).tril().repeat(n, 1, 1)
