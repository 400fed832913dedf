"""AUROC of τ, last layer (Jain et al. 2024, Fig. 3)."""

from __future__ import annotations

from experiments.fragility.predictors.clusters import separations
from makebreak.model_zoo import Subject


def tau_auroc(subject: Subject) -> float | None:
    """AUROC of τ, at the end of text in the last MLP (Jain et al. 2024)."""
    return separations(subject)[-1].auroc
