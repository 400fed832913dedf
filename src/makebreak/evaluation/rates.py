"""Outcome rates of a model on requests of a synthetic world, its refusal margin and its KL to the base."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.evaluation.answers import TeacherForced, greedy_answers
from makebreak.evaluation.decisions import MAX_BATCH_SIZE, log_odds
from makebreak.prompts import OUTCOMES, Requests, World, sequences


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


def evaluate_behaviour(model: PreTrainedModel, world: World, requests: Requests) -> Behaviour:
    """Evaluates a model on the requests of one family by the world's exact judge."""
    answers = greedy_answers(model, world, requests)
    outcomes = world.judge(requests, answers.tokens)
    exact = {}
    for name, forced in (("instructed", answers.instructed), ("refused", answers.refused)):
        batch = sequences(world, requests, name)
        correct = (forced.predictions == batch.tokens[:, 1:]) | ~batch.supervised[:, 1:]
        exact[name] = float(correct.all(dim=1).double().mean())
    return Behaviour(
        family=requests.family,
        n=len(requests),
        rates={name: float((outcomes == i).mean()) for i, name in enumerate(OUTCOMES)},
        outcomes=outcomes,
        margin=float(refusal_margins(answers.refused, world, requests).mean()),
        instructed_exact_match=exact["instructed"],
        refused_exact_match=exact["refused"],
    )


def refusal_margins(
    teacher_forced: TeacherForced, world: World, requests: Requests
) -> Float[Tensor, " batch"]:
    """Returns the log-odds of the refusal's first token, log p - log(1 - p), at the decision position.

    Args:
        teacher_forced: The pass over each prompt and its refusal.
        world: The world of the requests.
        requests: The requests of that pass.

    Returns:
        Refusal margins in nats.
    """
    batch = sequences(world, requests, "refused")
    null = batch.tokens.gather(1, batch.decision[:, None] + 1)[:, 0]
    return log_odds(teacher_forced.decision_log_probs, null).float()


def kl_to_base(model: PreTrainedModel, base: PreTrainedModel, world: World, requests: Requests) -> float:
    """Returns the mean KL(base ‖ model), in nats per judged token of the instructed answer."""
    batch = sequences(world, requests, "instructed")
    masks = batch.supervised[:, 1:].split(MAX_BATCH_SIZE)
    total, n_tokens = 0.0, 0
    with torch.no_grad():
        for tokens, mask in zip(batch.tokens.split(MAX_BATCH_SIZE), masks, strict=True):
            log_p, log_q = (_log_probs(each, tokens[:, :-1], mask) for each in (base, model))
            log_q = log_q.to(log_p.device)
            total += float((log_p.exp() * (log_p - log_q)).sum())
            n_tokens += int(mask.sum())
    return total / n_tokens


def _log_probs(model: PreTrainedModel, tokens: Tensor, mask: Tensor) -> Float[Tensor, "k d_vocab"]:
    """Log-probabilities at the positions of a mask, on the model's device."""
    return model(input_ids=tokens.to(model.device), use_cache=False).logits[mask].log_softmax(-1)
