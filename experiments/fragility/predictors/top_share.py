"""Share of the update's energy in its first singular direction, mean over matrices."""

from __future__ import annotations

import numpy as np

from experiments.fragility.predictors.updates import update_matrices
from makebreak.geometry import spectrum
from makebreak.model_zoo import Subject


def top_share(subject: Subject) -> float | None:
    """σ₁² / Σσ² of the update, mean over changed matrices (Hu et al. 2021, 7.2)."""
    spectra = [spectrum(update) for update in update_matrices(subject).values()]
    known = [each.top_share for each in spectra if each is not None]
    return float(np.mean(known)) if known else None
