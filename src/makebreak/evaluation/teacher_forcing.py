"""Teacher-forced loss of target answers, and the definition of refusal and compliance by them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import PrefixCache, forward, logits_at
from makebreak.models import batch_tokens
from makebreak.prompts import Requests, Sequences, TextRequests, target_sequences

_MAX_TOKENS = 16_384
"""Most tokens, padding included, of one forward pass with targets."""
_MAX_LOGITS = 2**27
"""Most logits, targets times vocabulary, of one forward pass with targets."""


class TargetScore(NamedTuple):
    """Teacher-forced score of the supervised tokens of sequences."""

    nll: Float[Tensor, " batch"]
    """Mean negative log-likelihood per supervised token, in nats; differentiable."""
    correct: Bool[Tensor, " targets"]
    """Whether each supervised token, in reading order, is the likeliest."""
    exact_match: Bool[Tensor, " batch"]
    """Whether all supervised tokens are the likeliest, that is, whether greedy decoding produces them."""


def score_targets(
    model: PreTrainedModel, batch: Sequences, *, cache: PrefixCache | None = None
) -> TargetScore:
    """Scores the supervised tokens of sequences in one teacher-forced pass.

    Args:
        model: A causal language model.
        batch: Sequences with at least one supervised token each.
        cache: Cache of the first tokens of the sequences, none of which is supervised; None for none.

    Returns:
        The score of every sequence.
    """
    batch = batch if cache is None else cache.remainder(batch)
    mask = batch.supervised[:, 1:]
    row, targets = mask.nonzero(as_tuple=True)[0], batch.tokens[:, 1:][mask].to(model.device)
    with logits_at(model, mask):
        logits = forward(model, batch.tokens[:, :-1], cache=cache).logits[0]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    correct, row = logits.argmax(dim=-1) == targets, row.to(model.device)
    n_targets, zeros = mask.sum(dim=1).to(model.device), losses.new_zeros(len(mask))
    nll = zeros.index_add(0, row, losses) / n_targets
    return TargetScore(nll, correct, zeros.index_add(0, row, correct.to(zeros)) == n_targets)


class TargetNLL(NamedTuple):
    """Loss of the whole judged segment of each request's target, without gradients."""

    nll: Float[Tensor, " n"]
    """Mean negative log-likelihood per token, in nats."""
    exact_match: Bool[Tensor, " n"]
    """Whether greedy decoding produces the judged segment, its STOP included."""


def target_nll(model: PreTrainedModel, requests: Requests, answer: str) -> TargetNLL:
    """Returns the loss of the judged segment of an answer, in batches that fit into memory.

    Args:
        model: A causal language model.
        requests: The requests.
        answer: `instructed` or `refused`. What precedes the judged segment is taken from the same answer.

    Returns:
        Loss and exact match of every request.
    """
    rows = torch.arange(len(requests)).split(target_batch_size(model, requests))
    with torch.no_grad():
        scores = [score_targets(model, target_sequences(requests[part.numpy()], answer)) for part in rows]
    nll = torch.cat([score.nll.float().cpu() for score in scores])
    return TargetNLL(nll, torch.cat([score.exact_match.cpu() for score in scores]))


def outcome_targets(requests: Requests, answer: str) -> Sequences:
    """Returns prompts and answers in which the tokens that decide the outcome are supervised.

    A request is refused if greedy decoding produces the judged segment of its `refused` answer up to the
    STOP, and complied with if it produces the judged segment of its `instructed` answer, STOP included. The
    exact judges of the worlds use the same definition. A refusal in text (`TextRequests`) counts as a whole.

    Args:
        requests: The requests.
        answer: `refused` or `instructed`.

    Returns:
        Sequences whose `supervised` mask marks the tokens that have to be produced.
    """
    batch = target_sequences(requests, answer)
    if answer != "refused" or isinstance(requests, TextRequests):
        return batch
    end = torch.from_numpy(requests.prompt_length + _refusal_end(requests))[:, None]
    return batch.supervise(batch.supervised & (torch.arange(batch.tokens.shape[1]) < end))


def _refusal_end(requests: Requests) -> np.ndarray:
    """(n,) position in the refused answer at which the refusal ends and its STOPs begin.

    STOP is the segment's last token, repeated if a world makes both answers equally long. A segment that is
    one token throughout has no STOP.
    """
    n, width = requests.refused.shape
    start, stop = requests.judged.T
    column = np.arange(width)
    inside = (column >= start[:, None]) & (column < stop[:, None])
    before_stop = inside & (requests.refused != requests.refused[np.arange(n), stop - 1][:, None])
    return np.where(before_stop.any(axis=1), width - before_stop[:, ::-1].argmax(axis=1), stop)


def exact_match(model: PreTrainedModel, requests: Requests, answer: str) -> Bool[Tensor, " n"]:
    """Returns whether greedy decoding produces a refusal (STOP not required) or the instructed answer.

    The result is exact and needs one teacher-forced pass; `outcome_targets` defines the tokens that count.
    """
    rows = torch.arange(len(requests)).split(target_batch_size(model, requests))
    with torch.no_grad():
        scores = [score_targets(model, outcome_targets(requests[part.numpy()], answer)) for part in rows]
    return torch.cat([score.exact_match for score in scores]).cpu()


def target_batch_size(model: PreTrainedModel, requests: Requests) -> int:
    """Returns how many requests fit into one pass, by their tokens and by their targets' logits."""
    lengths = requests.judged[:, 1] - requests.judged[:, 0]
    width = requests.prompt.shape[1] + int(requests.judged[:, 1].max())
    return sequences_per_pass(model, width, int(lengths.max()))


def sequences_per_pass(model: PreTrainedModel, width: int, n_targets: int) -> int:
    """Returns how many sequences of a width, with so many targets each, fit into one pass."""
    n_tokens = min(_MAX_TOKENS, batch_tokens(model))
    return max(min(n_tokens // width, _MAX_LOGITS // (n_targets * model.config.vocab_size)), 1)
