"""Log-probabilities of supervised tokens.

Sums and counts are kept apart, so that no batch size, padding or accumulation changes a mean. For a stack of
models (`models.stack_models`) every result has an axis of members after that of the requests.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from makebreak.activations import PrefixCache, forward
from makebreak.models import by_request, member_rows, stack_size
from makebreak.prompts import Sequences

MIN_SHARED_PREFIX = 16
"""Least length in tokens of a shared prefix that training processes once. It stays, so that training again
rounds every loss as before."""


def sequence_log_probs(
    model: PreTrainedModel, batch: Sequences, *, share_prefix: bool = True
) -> tuple[Float[Tensor, " batch *members"], Int[Tensor, " batch *members"]]:
    """Sum of the log-probabilities of each sequence's supervised tokens, and their number.

    Logits of a single model are computed only where a target is supervised, and nothing after the last one
    is read. A stack computes all of them, so that an accelerator need not wait for the positions.

    Args:
        model: A causal language model, or a stack of them.
        batch: Sequences with supervised tokens, on any device; those of a stack have an axis of members.
        share_prefix: Whether a prefix that all sequences have in common may be processed once for all of
            them; an intervention on the batch would not reach it.

    Returns:
        The sums in nats, at least in float32, and the counts, on the model's device.

    Raises:
        ValueError: If no token of the batch of a single model is supervised.
    """
    batch = batch.to(model.device)
    if stack_size(model) is not None:
        return _stacked_log_probs(model, batch)
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
    targets = targets.to(hidden.device)
    logits = _head(model)(hidden[targets])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # bfloat16 would lose the sum
    expected = batch.tokens[:, cache.n_tokens + 1 : width + 1].to(hidden.device)[targets]
    per_token = F.cross_entropy(logits, expected, reduction="none")
    rows = torch.nonzero(targets)[:, 0]
    return -per_token.new_zeros(len(batch)).index_add(0, rows, per_token), counts.to(hidden.device)


def _stacked_log_probs(model: PreTrainedModel, batch: Sequences) -> tuple[Tensor, Tensor]:
    """`sequence_log_probs` of a stack, without any value that the host has to wait for."""
    hidden = forward(model, member_rows(model, batch.tokens)[:, :-1], lm_head=False).last_hidden_state
    logits = by_request(model, _head(model)(hidden))
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    expected, targets = batch.tokens[..., 1:], batch.supervised[..., 1:]
    per_token = F.cross_entropy(logits.flatten(0, -2), expected.flatten(), reduction="none")
    return -per_token.view(targets.shape).where(targets, 0).sum(dim=-1), targets.sum(dim=-1)


def _head(model: PreTrainedModel) -> nn.Module:
    head = model.get_output_embeddings()
    assert head is not None, "a causal language model has a head"
    return head


def mean_cross_entropy(
    model: PreTrainedModel, batch: Sequences, *, share_prefix: bool = True
) -> Float[Tensor, "*members"]:
    """Mean cross-entropy over all supervised tokens of the batch, in nats.

    Args:
        model: A causal language model, or a stack of them.
        batch: Sequences with supervised tokens.
        share_prefix: Whether a prefix that all sequences have in common may be processed once for all of
            them.

    Returns:
        A scalar, or one number for each member of a stack.
    """
    sums, counts = sequence_log_probs(model, batch, share_prefix=share_prefix)
    return -sums.sum(dim=0) / counts.sum(dim=0)


def hidden_states(
    model: PreTrainedModel, batch: Sequences, layers: tuple[int, ...]
) -> list[Float[Tensor, "batch *members pos d_model"]]:
    """States after some blocks, at every position of the sequences, with gradients.

    Args:
        model: A causal language model, or a stack of them.
        batch: The sequences.
        layers: Numbers of blocks, from 1; the states after the last one have passed the final norm.

    Returns:
        The states after each number of blocks.
    """
    output = model.base_model(
        input_ids=member_rows(model, batch.tokens).to(model.device),
        output_hidden_states=True,
        use_cache=False,
    )
    return [by_request(model, output.hidden_states[layer]) for layer in layers]
