"""Log-probabilities of supervised tokens.

Sums and counts are kept apart, so that no batch size, padding or accumulation changes a mean.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import PrefixCache, forward
from makebreak.prompts import Sequences

MIN_SHARED_PREFIX = 16
"""Least length in tokens of a shared prefix that training processes once. It stays, so that training again
rounds every loss as before."""


def sequence_log_probs(
    model: PreTrainedModel, batch: Sequences, *, share_prefix: bool = True
) -> tuple[Float[Tensor, " batch"], Int[Tensor, " batch"]]:
    """Sum of the log-probabilities of each sequence's supervised tokens, and their number.

    Logits are computed only where a target is supervised, and nothing after the last one is read.

    Args:
        model: A causal language model.
        batch: Sequences with supervised tokens, on any device.
        share_prefix: Whether a prefix that all sequences have in common may be processed once for all of
            them; an intervention on the batch would not reach it.

    Returns:
        The sums in nats, at least in float32, and the counts, on the model's device.

    Raises:
        ValueError: If no token of the batch is supervised.
    """
    batch = batch.to(model.device)
    targets = batch.supervised[:, 1:]
    counts = targets.sum(dim=1)
    if not counts.any():
        raise ValueError(f"nothing to supervise: none of {targets.numel()} targets of the batch is marked")
    width = int(targets.any(dim=0).nonzero().max()) + 1
    tokens, cache = batch.tokens[:, :width], PrefixCache()
    if share_prefix:
        separable = ~targets[:, :width].any(dim=0)
        cache = PrefixCache.shared(model, tokens, separable, min_tokens=MIN_SHARED_PREFIX)
    targets = targets[:, cache.n_tokens : width]
    hidden = forward(model, tokens[:, cache.n_tokens :], lm_head=False, cache=cache).last_hidden_state
    head = model.get_output_embeddings()
    assert head is not None, "a causal language model has a head"
    logits = head(hidden[targets])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # bfloat16 would lose the sum
    expected = batch.tokens[:, cache.n_tokens + 1 : width + 1][targets]
    per_token = F.cross_entropy(logits, expected, reduction="none")
    rows = torch.nonzero(targets)[:, 0]
    return -per_token.new_zeros(len(batch)).index_add(0, rows, per_token), counts


def mean_cross_entropy(
    model: PreTrainedModel, batch: Sequences, *, share_prefix: bool = True
) -> Float[Tensor, ""]:
    """Mean cross-entropy over all supervised tokens of the batch, in nats.

    Args:
        model: A causal language model.
        batch: Sequences with supervised tokens.
        share_prefix: Whether a prefix that all sequences have in common may be processed once for all of
            them.

    Returns:
        A scalar.
    """
    sums, counts = sequence_log_probs(model, batch, share_prefix=share_prefix)
    return -sums.sum() / counts.sum()
