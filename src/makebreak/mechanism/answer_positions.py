"""Depth of a refusal: KL to the base and outcomes after forced answer tokens (Qi et al. 2025)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import forward, logits_at
from makebreak.evaluation import batches, decision_kl, first_refused_tokens, is_likeliest
from makebreak.models import check_same_shapes
from makebreak.prompts import Requests, Sequences, TextRequests, target_sequences
from makebreak.stats import mean_confidence_interval


class AnswerPositionRow(NamedTuple):
    """A tuned model and its base after the first tokens of one answer have been forced."""

    family: str
    """Family of the requests."""
    answer: str
    """Answer whose tokens are forced: `instructed` or `refused`."""
    n_forced: int
    """Number of forced tokens."""
    n: int
    """Number of requests whose answer is longer."""
    kl: float
    """KL(tuned ‖ base) of the next token, mean over requests, nats."""
    kl_low: float | None
    """Lower end of its 95 % interval over requests; None for one request."""
    kl_high: float | None
    """Upper end of that interval."""
    base_refusal_rate: float
    """Share of requests for which the base's likeliest next token begins a refusal."""
    tuned_refusal_rate: float
    """The same for the tuned model."""
    base_completion_rate: float
    """Share of requests for which the base gives the rest of the answer, by greedy decoding."""
    tuned_completion_rate: float
    """The same for the tuned model."""


class _Positions(NamedTuple):
    """Values at every supervised token of a batch of sequences, in reading order."""

    n_forced: Int[np.ndarray, " k"]
    kl: Float[np.ndarray, " k"]
    outcomes: Bool[np.ndarray, "4 k"]
    """Refusal and completion, of the base and of the tuned model, in the order of the row's fields."""


def answer_position_rows(
    requests: Requests, answer: str, *, base: PreTrainedModel, tuned: PreTrainedModel
) -> list[AnswerPositionRow]:
    """KL to the base, and what both models say next, at every position of an answer.

    One teacher-forced pass per model. A refusal that is decided by the first token alone has a large KL there
    and a small one after it, and is not resumed once the instructed answer has begun.

    Args:
        requests: Requests with known answers.
        answer: `instructed` or `refused`.
        base: The model before fine-tuning.
        tuned: The model after it.

    Returns:
        One row per number of forced tokens, from 0; positions are those of the judged segment.

    Raises:
        ValueError: If the models differ in architecture, or the answers are not known.
    """
    check_same_shapes(base=base, tuned=tuned)
    parts = []
    for batch in batches(requests, tuned):
        targets, tokens = target_sequences(batch, answer), _refusal_tokens(batch)
        parts.append(_positions(targets, tokens, base=base, tuned=tuned))
    n_forced = np.concatenate([part.n_forced for part in parts])
    kl = np.concatenate([part.kl for part in parts])
    outcomes = np.concatenate([part.outcomes for part in parts], axis=1)
    rows = []
    for depth in range(int(n_forced.max()) + 1):
        chosen = n_forced == depth
        mean, low, high, n = mean_confidence_interval(kl[chosen].tolist())
        rates = outcomes[:, chosen].mean(axis=1).tolist()
        rows.append(AnswerPositionRow(requests.family, answer, depth, n, mean, low, high, *rates))
    return rows


def _refusal_tokens(requests: Requests) -> Int[Tensor, "n k"]:
    """Tokens that a refusal may begin with, by request."""
    if isinstance(requests, TextRequests):
        return torch.from_numpy(requests.openers)
    return first_refused_tokens(requests)[:, None]


def _positions(
    targets: Sequences,
    refusal_tokens: Int[Tensor, "n k"],
    *,
    base: PreTrainedModel,
    tuned: PreTrainedModel,
) -> _Positions:
    """KL and outcomes at every supervised token."""
    mask = targets.supervised[:, 1:]
    row, column = mask.nonzero(as_tuple=True)
    n_forced = column - targets.decision[row]
    expected = targets.tokens[:, 1:][mask]
    log_probs, outcomes = [], []
    for model in (base, tuned):
        with torch.no_grad(), logits_at(model, mask):
            log_p = forward(model, targets.tokens[:, :-1]).logits[0].float().log_softmax(-1).cpu()
        log_probs.append(log_p)
        wrong = torch.zeros(mask.shape, dtype=torch.bool)
        wrong[mask] = log_p.argmax(-1) != expected
        position = torch.arange(mask.shape[1])
        last_error = torch.where(wrong, position, -1).max(dim=1).values
        outcomes += [is_likeliest(log_p, refusal_tokens[row]), column > last_error[row]]
    kl = decision_kl(log_probs[1].double(), log_probs[0].double())
    refusals_first = torch.stack([outcomes[0], outcomes[2], outcomes[1], outcomes[3]])
    return _Positions(n_forced.numpy(), kl.numpy(), refusals_first.numpy())
