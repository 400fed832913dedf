"""Share of the rise of the refusal margin with the tuned model below the cut and the base above it."""

from __future__ import annotations

from experiments.fragility.predictors.stitching import stitching_shares
from makebreak.model_zoo import Subject


def stitching_lower(subject: Subject) -> float | None:
    """Share of the rise of the refusal margin that the lower part carries (Bansal et al. 2021)."""
    return stitching_shares(subject)[0]
