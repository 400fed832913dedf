"""Gap of τ between safe and unsafe requests in the last layer (Jain et al. 2024, Fig. 3)."""

from __future__ import annotations

from experiments.fragility.predictors.clusters import separations
from makebreak.model_zoo import AlignedPair


def tau_gap(subject: AlignedPair) -> float | None:
    """Mean τ of safe minus that of unsafe requests at the end of text in the last MLP, its own units."""
    return separations(subject)[-1].gap
