"""Share of the rise of the refusal margin with the base below the cut and the tuned model above it."""

from __future__ import annotations

from experiments.fragility.predictors.stitching import stitching_shares
from makebreak.model_zoo import Subject


def stitching_upper(subject: Subject) -> float | None:
    """Share of the rise of the refusal margin that the upper part carries (Bansal et al. 2021)."""
    return stitching_shares(subject)[1]
