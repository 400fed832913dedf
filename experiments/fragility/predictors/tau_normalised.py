"""Gap of τ over the distance of the class means, last layer (Jain et al. 2024, Fig. 3)."""

from __future__ import annotations

from experiments.fragility.predictors.clusters import separations
from makebreak.model_zoo import AlignedPair


def tau_normalised(subject: AlignedPair) -> float | None:
    """Gap of τ over the distance of the class means, at the end of text in the last MLP."""
    return separations(subject)[-1].normalised
