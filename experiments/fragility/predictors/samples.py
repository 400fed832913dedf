"""Requests on which predictors are computed: held-out ones that no outcome is measured on."""

from __future__ import annotations

from makebreak.mechanism import SafeUnsafeRequests
from makebreak.model_zoo import AlignedPair
from makebreak.prompts import Requests

N_REQUESTS = 64
"""Requests of each class. They are of the half *fit*; outcomes are measured on the half *score*."""


def unsafe_requests(subject: AlignedPair, n: int = N_REQUESTS) -> Requests:
    """Unsafe requests of the half *fit*, the same for every model of a pretraining seed."""
    return subject.sample("unsafe", n, "fit")


def safe_requests(subject: AlignedPair, n: int = N_REQUESTS) -> Requests:
    """Safe requests of the half *fit*, the same for every model of a pretraining seed."""
    return subject.sample("safe", n, "fit")


def both_classes(subject: AlignedPair, n: int = N_REQUESTS) -> SafeUnsafeRequests:
    """Safe and unsafe requests of the half *fit*."""
    return SafeUnsafeRequests(safe_requests(subject, n), unsafe_requests(subject, n))
