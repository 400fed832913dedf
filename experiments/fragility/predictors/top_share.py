"""Share of the update's energy in its first singular direction, mean over matrices."""

from __future__ import annotations

import numpy as np

from experiments.fragility.predictors.updates import update_spectra
from makebreak.model_zoo import Subject


def top_share(subject: Subject) -> float | None:
    """σ₁² / Σσ² of the update, mean over changed matrices (Hu et al. 2021, 7.2)."""
    values = [spectrum.top_share for spectrum in update_spectra(subject)]
    return float(np.mean(values)) if values else None
