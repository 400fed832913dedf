"""What does a model assign to the tokens that count? Sums and counts are kept apart, so that no batch size,
padding or accumulation changes a mean."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.models.prefix import read_once, shared_prefix
from makebreak.requests import Sequences


def log_probabilities(
    model: PreTrainedModel, batch: Sequences, *, apart: bool = True
) -> tuple[Float[Tensor, " batch"], Int[Tensor, " batch"]]:
    """Sum of log p over the supervised tokens of each sequence, and their number.

    Logits are computed only where a target is supervised, and nothing behind the last one is read. apart: whether what
    all sequences begin with may be read once; no intervention on the batch would reach it.
    Raises ValueError where nothing is supervised.
    """
    targets = batch.supervised[:, 1:]
    counts = targets.sum(dim=1)
    if not counts.any():
        raise ValueError(f"nothing to supervise: none of {targets.numel()} targets of the batch is marked")
    width = int(targets.any(dim=0).nonzero().max()) + 1
    shared = shared_prefix(batch.tokens[:, :width], ~targets[:, :width].any(dim=0)) if apart else 0
    targets = targets[:, shared:width]
    hidden = _states(model, batch.tokens[:, :width], shared)
    head = model.get_output_embeddings()
    assert head is not None, "a causal language model has a head"
    logits = head(hidden[targets])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # bfloat16 would lose the sum
    per_token = F.cross_entropy(logits, batch.tokens[:, shared + 1 : width + 1][targets], reduction="none")
    rows = torch.nonzero(targets)[:, 0]
    return -per_token.new_zeros(len(batch)).index_add(0, rows, per_token), counts


def _states(
    model: PreTrainedModel, tokens: Int[Tensor, "batch pos"], shared: int
) -> Float[Tensor, "batch rest d"]:
    """Last states behind the shared tokens, which are read once: a system prompt is a third of a short dialogue."""
    if not shared:
        return model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
    before = read_once(model, tokens, shared)
    return model.base_model(
        input_ids=tokens[:, shared:], past_key_values=before, use_cache=True
    ).last_hidden_state


def mean_cross_entropy(model: PreTrainedModel, batch: Sequences, *, apart: bool = True) -> Float[Tensor, ""]:
    """Mean over all supervised tokens of the batch, in nats. apart: as of `log_probabilities`."""
    sums, counts = log_probabilities(model, batch, apart=apart)
    return -sums.sum() / counts.sum()
