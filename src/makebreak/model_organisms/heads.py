"""Attention heads that look for a feature and add vectors for what they read there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from makebreak.model_organisms.network import Network, Redraw

SCORE, SINK = 18.0, 9.0
"""Attention scores of what a head looks for, and of the first token, to which it looks otherwise."""


class Match(NamedTuple):
    """A pair of directions that gives an attention score where both are present."""

    query: Float[Tensor, " d_model"]
    """Direction at the position that looks, divided by the size of its component in the normed state."""
    key: Float[Tensor, " d_model"]
    """Direction at the position that is looked at, divided likewise."""
    score: float
    """The attention score, before the softmax."""


class Value(NamedTuple):
    """A direction that an attention head reads at the position it looks at, and what it adds for it."""

    reads: Float[Tensor, " d_model"]
    """Direction in the normed state."""
    writes: Float[Tensor, " d_model"]
    """What is added to the residual stream where the component has its usual size."""
    size: float
    """The usual size of the component in the normed state."""


def add_head(network: Network, block: int, matches: list[Match]) -> int:
    """Gives a free head of a block attention scores.

    Args:
        network: The network.
        block: The block.
        matches: What scores; rotary positions turn the dimensions that are used least.

    Returns:
        Number of the head.

    Raises:
        Redraw: If no head of the block is free.
    """
    if not network.heads[block]:
        raise Redraw("no head is free")
    head = int(network.heads[block].pop())
    for i, match in enumerate(matches):
        add_match(network, block, head, match, i)
    network.values[block, head] = [int(i) for i in network.rng.permutation(network.d_head)]
    return head


def add_match(network: Network, block: int, head: int, match: Match, number: int) -> None:
    """Adds one attention score to a head, in one of its slowest rotary dimensions."""
    row = head * network.d_head + network.d_head // 2 - 1 - number
    weight = (abs(match.score) * network.d_head**0.5) ** 0.5
    network.matrix(block, "attn.W_Q")[row] += weight * match.query
    network.matrix(block, "attn.W_K")[row] += weight * float(np.sign(match.score)) * match.key
    network.changed.add(f"blocks.{block}.attn")


def add_values(network: Network, block: int, head: int, pairs: list[Value]) -> None:
    """Makes a head add a vector for each direction that it reads where it looks.

    Args:
        network: The network.
        block: The block.
        head: A head that `look` made.
        pairs: What is read and written; each takes a free dimension of the head's values.

    Raises:
        Redraw: If no dimension is free.
    """
    for pair in pairs:
        if not network.values[block, head]:
            raise Redraw("no dimension of the head is free")
        row = head * network.d_head + network.values[block, head].pop()
        network.matrix(block, "attn.W_V")[row] += pair.reads / pair.size
        network.matrix(block, "attn.W_O")[:, row] += pair.writes
    network.changed.add(f"blocks.{block}.attn")
