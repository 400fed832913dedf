"""Key-value caches of the first tokens of a batch: computed once, read by any number of forward passes."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import Cache, PreTrainedModel

from makebreak.prompts import Sequences

MIN_PREFIX_TOKENS = 8
"""Least number of prefix tokens that are worth a forward pass of their own."""


class PrefixCache(NamedTuple):
    """Keys and values of the first `n_tokens` tokens of every row of a batch; of none if that is 0.

    Results with and without a cache are equal up to rounding, so that the least length decides about speed.
    """

    n_tokens: int = 0
    """Number of tokens whose keys and values are kept, the same for every row."""
    key_values: Cache | None = None
    """Keys and values; None if `n_tokens` is 0. Forward passes extend a copy, `past_key_values`."""

    @classmethod
    def of_rows(cls, model: PreTrainedModel, tokens: Int[Tensor, "batch pos"], n_tokens: int) -> PrefixCache:
        """Processes the first tokens of every row, without gradients.

        Args:
            model: A causal language model.
            tokens: Token ids, one sequence per row.
            n_tokens: Number of tokens before the first that may change; none of them is padding.

        Returns:
            The cache; an empty one if there are fewer than `MIN_PREFIX_TOKENS` tokens.
        """
        if n_tokens < MIN_PREFIX_TOKENS:
            return cls()
        with torch.no_grad():
            prefix = tokens[:, :n_tokens].to(model.device)
            return cls(n_tokens, model.base_model(input_ids=prefix, use_cache=True).past_key_values)

    @classmethod
    def shared(
        cls,
        model: PreTrainedModel,
        tokens: Int[Tensor, "batch pos"],
        separable: Bool[Tensor, " pos"],
        *,
        min_tokens: int | None = None,
    ) -> PrefixCache:
        """Processes the prefix that all rows have in common, such as a system prompt, once; with gradients.

        Args:
            model: A causal language model.
            tokens: Token ids, one sequence per row.
            separable: Whether a position may be part of the prefix, which ends before the first that may not.
            min_tokens: Least length of the prefix; None for `MIN_PREFIX_TOKENS`.

        Returns:
            The cache of every row; an empty one for a shorter prefix, or for a batch of one.
        """
        n_tokens = int(((tokens == tokens[:1]).all(dim=0) & separable).long().cumprod(dim=0).sum())
        if len(tokens) < 2 or n_tokens < (MIN_PREFIX_TOKENS if min_tokens is None else min_tokens):
            return cls()
        output = model.base_model(input_ids=tokens[:1, :n_tokens].to(model.device), use_cache=True)
        output.past_key_values.batch_repeat_interleave(len(tokens))
        return cls(n_tokens, output.past_key_values)

    @classmethod
    def from_output(cls, output: Any, n_tokens: int) -> PrefixCache:
        """Keeps the first tokens of the cache that a pass returned.

        Args:
            output: Output of a model for whole rows.
            n_tokens: Number of tokens to keep; none of them is padding.

        Returns:
            The cache; an empty one where the rows are longer than the window of attention, whose cache does
            not hold the tokens before it.
        """
        width, layers = output.past_key_values.get_seq_length(), output.past_key_values.layers
        if any(layer.is_sliding and width >= layer.sliding_window for layer in layers):
            return cls()
        output.past_key_values.crop(n_tokens - width)
        return cls(n_tokens, output.past_key_values)

    def past_key_values(self) -> Cache | None:
        """Returns a copy for one forward pass, which extends it; the tensors are shared, not copied."""
        cache = copy.copy(self.key_values)
        if cache is not None:
            cache.layers = [copy.copy(layer) for layer in cache.layers]
        return cache

    def select(self, rows: Int[Tensor, " n"]) -> PrefixCache:
        """Returns the cache of some rows, in the given order, in which a row may be repeated."""
        cache: Any = self.past_key_values()
        if cache is not None:
            cache.batch_select_indices(rows.to(cache.layers[0].keys.device))
        return PrefixCache(self.n_tokens, cache)

    def remainder(self, batch: Sequences) -> Sequences:
        """Returns sequences without the tokens that the cache holds."""
        n = self.n_tokens
        return Sequences(batch.tokens[:, n:], batch.supervised[:, n:], batch.decision - n)
