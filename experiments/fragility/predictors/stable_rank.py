"""Stable rank ‖ΔW‖² / σ₁² of the update, mean over matrices."""

from __future__ import annotations

import numpy as np

from experiments.fragility.predictors.updates import update_matrices
from makebreak.geometry import spectrum
from makebreak.model_zoo import Subject


def stable_rank(subject: Subject) -> float | None:
    """Stable rank ‖ΔW‖² / σ₁² of the update, mean over changed matrices (Hu et al. 2021, 7.2)."""
    spectra = [spectrum(update) for update in update_matrices(subject).values()]
    known = [each.stable_rank for each in spectra if each is not None]
    return float(np.mean(known)) if known else None
