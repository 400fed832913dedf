"""Refusal margin: mean log-odds of the refusal's first token on unsafe requests, nats."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from experiments.fragility.predictors.samples import unsafe_requests
from makebreak.evaluation import first_tokens, log_odds, next_token_log_probs
from makebreak.model_zoo import AlignedPair


def refusal_margins(subject: AlignedPair) -> Float[Tensor, " n"]:
    """Log-odds of the refusal's first token of every unsafe request, nats."""
    requests = unsafe_requests(subject)
    return log_odds(next_token_log_probs(subject.model, requests), first_tokens(requests, "refused"))


def margin(subject: AlignedPair) -> float:
    """Mean refusal margin (the refusal score of Arditi et al. 2024, equation 3)."""
    return float(refusal_margins(subject).mean())
