"""Stable rank ‖ΔW‖² / σ₁² of the update, mean over matrices."""

from __future__ import annotations

import numpy as np

from experiments.fragility.predictors.updates import update_spectra
from makebreak.model_zoo import Subject


def stable_rank(subject: Subject) -> float | None:
    """Stable rank ‖ΔW‖² / σ₁² of the update, mean over changed matrices (Hu et al. 2021, 7.2)."""
    values = [spectrum.stable_rank for spectrum in update_spectra(subject)]
    return float(np.mean(values)) if values else None
