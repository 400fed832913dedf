"""VISAGE as the released code of Peng et al. 2024 computes it."""

from __future__ import annotations

import numpy as np

from experiments.fragility.predictors import basin
from makebreak.model_zoo import Subject
from makebreak.weight_landscape import visage_released as visage_of_curve


def visage_released(subject: Subject) -> float:
    """Mean VISAGE of the released code over random directions, percent."""
    return float(
        np.mean([visage_of_curve(basin.published_range(curve)) for curve in basin.random_curves(subject)])
    )
