"""Log-probabilities of supervised tokens.

Sums and counts are kept apart, so that no batch size, padding or accumulation changes a mean.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.models.shared_prefix import prefix_cache, shared_prefix_length
from makebreak.prompts import Sequences


def sequence_log_probs(
    model: PreTrainedModel, batch: Sequences, *, share_prefix: bool = True
) -> tuple[Float[Tensor, " batch"], Int[Tensor, " batch"]]:
    """Sum of the log-probabilities of each sequence's supervised tokens, and their number.

    Logits are computed only where a target is supervised, and nothing after the last one is read.

    Args:
        model: A causal language model.
        batch: Sequences with supervised tokens.
        share_prefix: Whether a prefix that all sequences have in common may be processed once for all of
            them; an intervention on the batch would not reach it.

    Returns:
        The sums in nats, at least in float32, and the counts.

    Raises:
        ValueError: If no token of the batch is supervised.
    """
    targets = batch.supervised[:, 1:]
    counts = targets.sum(dim=1)
    if not counts.any():
        raise ValueError(f"nothing to supervise: none of {targets.numel()} targets of the batch is marked")
    width = int(targets.any(dim=0).nonzero().max()) + 1
    n_shared = 0
    if share_prefix:
        n_shared = shared_prefix_length(batch.tokens[:, :width], ~targets[:, :width].any(dim=0))
    targets = targets[:, n_shared:width]
    hidden = _last_hidden_states(model, batch.tokens[:, :width], n_shared)
    head = model.get_output_embeddings()
    assert head is not None, "a causal language model has a head"
    logits = head(hidden[targets])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # bfloat16 would lose the sum
    expected = batch.tokens[:, n_shared + 1 : width + 1][targets]
    per_token = F.cross_entropy(logits, expected, reduction="none")
    rows = torch.nonzero(targets)[:, 0]
    return -per_token.new_zeros(len(batch)).index_add(0, rows, per_token), counts


def _last_hidden_states(
    model: PreTrainedModel, tokens: Int[Tensor, "batch pos"], n_shared: int
) -> Float[Tensor, "batch rest d_model"]:
    """Last hidden states after a shared prefix, such as a system prompt, which is processed once."""
    if not n_shared:
        return model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
    cache = prefix_cache(model, tokens, n_shared)
    return model.base_model(
        input_ids=tokens[:, n_shared:], past_key_values=cache, use_cache=True
    ).last_hidden_state


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
