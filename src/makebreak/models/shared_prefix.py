"""Prefixes that all sequences of a batch share, such as a system prompt, processed once for all."""

from __future__ import annotations

from jaxtyping import Bool, Int
from torch import Tensor
from transformers import Cache, PreTrainedModel

MIN_SHARED_PREFIX = 16
"""Least length in tokens of a shared prefix that is worth a forward pass of its own."""


def shared_prefix_length(tokens: Int[Tensor, "batch pos"], separable: Bool[Tensor, " pos"]) -> int:
    """Number of first tokens that all sequences have in common and that may be processed once.

    Args:
        tokens: Token ids.
        separable: Whether a position may be part of the prefix; the prefix ends before the first that may
            not.

    Returns:
        The length; 0 if it is below `MIN_SHARED_PREFIX`, or for a batch of one.
    """
    length = int(((tokens == tokens[:1]).all(dim=0) & separable).long().cumprod(dim=0).sum())
    return length if len(tokens) > 1 and length >= MIN_SHARED_PREFIX else 0


def prefix_cache(model: PreTrainedModel, tokens: Int[Tensor, "batch pos"], n_shared: int) -> Cache:
    """Returns the key-value cache of a batch after its first `n_shared` tokens, which all rows share."""
    cache = model.base_model(input_ids=tokens[:1, :n_shared], use_cache=True).past_key_values
    cache.batch_repeat_interleave(len(tokens))
    return cache
