"""Null share of unsafe over safe requests in the last layer."""

from __future__ import annotations

from experiments.fragility.predictors.null_share import layer_null_shares
from makebreak.model_zoo import Subject


def null_share_last(subject: Subject) -> float | None:
    """Log of the null share of unsafe over that of safe requests in the last layer (Jain et al. 2024)."""
    return layer_null_shares(subject)[-1]
