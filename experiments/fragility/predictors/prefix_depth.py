"""Depth of refusal in forced tokens of a harmful answer."""

from __future__ import annotations

from experiments.fragility.predictors.samples import unsafe_requests
from makebreak.attacks import min_prefill_length
from makebreak.model_zoo import AlignedPair


def prefix_depth(subject: AlignedPair) -> float:
    """Mean number of tokens of the harmful answer that must be forced until the model gives the rest.

    Prefilling as in Qi et al. 2024 and Andriushchenko et al. 2024.
    """
    return float(min_prefill_length(subject.model, unsafe_requests(subject)).mean())
