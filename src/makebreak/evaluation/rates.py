"""Outcome rates of a model on requests of a synthetic world, its refusal margin and its KL to the base."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import forward
from makebreak.evaluation.answers import GreedyAnswers, greedy_answers
from makebreak.evaluation.decisions import MAX_BATCH_SIZE, is_likeliest, log_odds
from makebreak.prompts import OUTCOMES, Outcome, Requests, World, sequences


@dataclass(frozen=True)
class Behaviour:
    """Outcomes of a model on requests of one family."""

    family: str
    """Name of the family."""
    n: int
    """Number of requests."""
    rates: dict[str, float]
    """Share of each outcome among the free-running greedy answers."""
    outcomes: np.ndarray
    """(n,) index into `OUTCOMES` of each request."""
    margin: float
    """Mean refusal margin: log-odds of the refusal's first token at the decision position, in nats."""
    instructed_exact_match: float
    """Share whose judged segment matches the instructed answer exactly, teacher-forced on that answer's own
    prefix (a measure of Jain et al. 2024). It is conditioned on another prefix than `refused_exact_match`, so
    the two need not sum to at most 1."""
    refused_exact_match: float
    """Share whose judged segment, STOP included, matches the refusal exactly, teacher-forced on its own
    prefix."""
    shallow_refusal_share: float
    """Share whose first judged token is the refusal's although the answer is no refusal: `margin`, which is
    of the first token, counts it as one."""


def evaluate_behaviour(model: PreTrainedModel, world: World, requests: Requests) -> Behaviour:
    """Evaluates a model on the requests of one family by the world's exact judge."""
    return behaviour_of(world, requests, greedy_answers(model, world, requests))


def behaviour_of(world: World, requests: Requests, answers: GreedyAnswers) -> Behaviour:
    """Behaviour that the answers to some requests show, by the world's exact judge."""
    outcomes = world.judge(requests, answers.tokens)
    begins = is_likeliest(answers.decision_log_probs, first_refused_tokens(requests)).numpy()
    return Behaviour(
        family=requests.family,
        n=len(requests),
        rates={name: float((outcomes == i).mean()) for i, name in enumerate(OUTCOMES)},
        outcomes=outcomes,
        margin=float(refusal_margins(answers.decision_log_probs, requests).mean()),
        instructed_exact_match=float(answers.instructed_exact_match.double().mean()),
        refused_exact_match=float(answers.refused_exact_match.double().mean()),
        shallow_refusal_share=float((begins & (outcomes != Outcome.REFUSE)).mean()),
    )


def refusal_margins(
    decision_log_probs: Float[Tensor, "batch d_vocab"], requests: Requests
) -> Float[Tensor, " batch"]:
    """Returns the log-odds of the refusal's first judged token, log p - log(1 - p).

    Args:
        decision_log_probs: Log-probabilities of the first judged token, as `greedy_answers` returns them.
        requests: The requests of that pass.

    Returns:
        Refusal margins in nats.
    """
    return log_odds(decision_log_probs, first_refused_tokens(requests)).float()


def first_refused_tokens(requests: Requests) -> Int[Tensor, " batch"]:
    """Returns the first judged token of each refusal, also where a later output is judged."""
    return torch.from_numpy(requests.refused[np.arange(len(requests)), requests.judged[:, 0]])


def kl_to_base(world: World, requests: Requests, *, base: PreTrainedModel, tuned: PreTrainedModel) -> float:
    """Returns the mean KL(base ‖ tuned), in nats per judged token of the instructed answer."""
    batch = sequences(world, requests, "instructed")
    width = int(batch.supervised.any(dim=0).nonzero().max()) + 1
    masks = batch.supervised[:, 1:width].split(MAX_BATCH_SIZE)
    total, n_tokens = 0.0, 0
    for tokens, mask in zip(batch.tokens[:, : width - 1].split(MAX_BATCH_SIZE), masks, strict=True):
        log_p, log_q = (_log_probs_at(network, tokens, mask) for network in (base, tuned))
        total += float((log_p.exp() * (log_p - log_q)).sum())
        n_tokens += int(mask.sum())
    return total / n_tokens


def _log_probs_at(model: PreTrainedModel, tokens: Tensor, where: Tensor) -> Float[Tensor, "k d_vocab"]:
    """Log-probabilities of the next token at k positions, in reading order, on the CPU."""
    with torch.no_grad():
        return forward(model, tokens).logits.cpu()[where].log_softmax(-1)
