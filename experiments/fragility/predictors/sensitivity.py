"""Sensitivity of the decision on unsafe requests to their tokens, relative to the base."""

from __future__ import annotations

from experiments.fragility.predictors.samples import unsafe_requests
from makebreak import mechanism
from makebreak.model_zoo import AlignedPair


def sensitivity(subject: AlignedPair) -> float:
    """Median over unsafe requests of ‖∂ log p / ∂ embeddings‖, model / base (Jain et al. 2024, Fig. 6)."""
    requests = unsafe_requests(subject)
    tuned, base = (mechanism.sensitivity(model, requests).log_p for model in (subject.model, subject.base))
    return float((tuned / base).median())
