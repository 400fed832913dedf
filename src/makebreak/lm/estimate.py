"""Estimates of the time that a job on a language model takes, from a few timed requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from makebreak.evaluation import generate_texts, next_token_log_probs
from makebreak.models import LanguageModel
from makebreak.prompts import TextRequests

TIMED_REQUESTS = 16
"""Largest number of requests that are timed."""
TIMED_TOKENS = 5
"""Tokens per answer that are timed."""


class Timing(NamedTuple):
    """Seconds that a model takes per request."""

    forward: float
    """Forward pass over the prompt."""
    first_token: float
    """Generation of an answer of one token, the prompt included."""
    token: float
    """Generation of every further token."""

    def answer(self, n_new: int) -> float:
        """Seconds to generate an answer of `n_new` tokens."""
        return self.first_token + (n_new - 1) * self.token


def time_model(lm: LanguageModel, requests: TextRequests) -> Timing:
    """Times forward passes and generation on the first few of the requests.

    Args:
        lm: The model.
        requests: Requests of the length that the work has.

    Returns:
        Seconds per request.
    """
    sample = requests[:TIMED_REQUESTS]
    generate_texts(lm, sample[:2], n_new=1)  # warms up
    forward = time_call(lambda: next_token_log_probs(lm.model, sample))
    one = time_call(lambda: generate_texts(lm, sample, n_new=1))
    several = time_call(lambda: generate_texts(lm, sample, n_new=TIMED_TOKENS))
    per_token = max(several - one, 0.0) / (TIMED_TOKENS - 1)
    return Timing(forward / len(sample), one / len(sample), per_token / len(sample))


def time_call(function: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.monotonic()
    function()
    return time.monotonic() - start


def estimate_message(seconds: float) -> str:
    """The line that a job logs before its work starts."""
    return f"at most about {max(seconds / 60, 0.1):.1f} minutes, less for steps that are cached"
