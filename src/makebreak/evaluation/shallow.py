"""Shallow refusals: answers that begin like the refusal and are none.

Margins, and all that is judged by the next token after the prompt, count such an answer as a refusal. Qi et
al. 2025 ("Safety alignment should be made more than just a few tokens deep") call such alignment shallow.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.evaluation.decisions import first_tokens, is_likeliest, next_token_log_probs
from makebreak.evaluation.outcomes import exact_outcomes
from makebreak.prompts import Outcome, Requests


def shallow_refusals(
    log_p: Float[Tensor, "*m n d_vocab"], requests: Requests, is_refused: Bool[Tensor, "*m n"]
) -> Bool[Tensor, "*m n"]:
    """Whether the likeliest first token begins a refusal although the whole answer is none.

    Args:
        log_p: Log-probabilities of the next token after each prompt.
        requests: The n requests, judged from the first token of the answer on.
        is_refused: Whether the whole answer to each request is a refusal.

    Returns:
        One truth value per request; leading axes, such as of steering vectors, are kept.

    Raises:
        ValueError: If the requests are judged on a later part of the answer.
    """
    return is_likeliest(log_p, first_tokens(requests, "refused")) & ~is_refused


def shallow_refusal_share(model: PreTrainedModel, requests: Requests) -> float:
    """Share of requests whose first token is the refusal's although the whole greedy answer is no refusal.

    Args:
        model: The model that answers.
        requests: Requests with both reference answers, judged from the first token of the answer on.

    Returns:
        The share, from 0 to 1. Where it is not small, a measure of the first token overstates refusal.
    """
    is_refused = torch.from_numpy(exact_outcomes(model, requests) == Outcome.REFUSE)
    log_p = next_token_log_probs(model, requests)
    return float(shallow_refusals(log_p, requests, is_refused).double().mean())
