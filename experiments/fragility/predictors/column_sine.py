"""Sine of the angle between outputs of the update and the column space of the base's matrix."""

from __future__ import annotations

import numpy as np

from experiments.fragility.predictors.updates import input_updates
from makebreak.geometry import sines
from makebreak.model_zoo import Subject
from makebreak.models import weight_matrix


def column_sine(subject: Subject) -> float | None:
    """Mean sine over leading outputs of ΔW_in and layers (Jain et al. 2024, Fig. 4)."""
    values = [
        sines(update, weight_matrix(subject.base, name)) for name, update in input_updates(subject).items()
    ]
    known = [float(value.mean()) for value in values if value is not None]
    return float(np.mean(known)) if known else None
