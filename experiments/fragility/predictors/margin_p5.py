"""Refusal margin of the requests that are refused least: 5th percentile, nats."""

from __future__ import annotations

from experiments.fragility.predictors.margin import refusal_margins
from makebreak.model_zoo import AlignedPair


def margin_p5(subject: AlignedPair) -> float:
    """5th percentile of the refusal margin over unsafe requests."""
    return float(refusal_margins(subject).quantile(0.05))
