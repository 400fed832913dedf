"""VISAGE of Peng et al. 2024, as defined in the text: mean over points where safety is not wholly lost."""

from __future__ import annotations

import numpy as np

from experiments.fragility.predictors import basin
from makebreak.model_zoo import AlignedPair
from makebreak.weight_landscape import visage as visage_of_curve


def visage(subject: AlignedPair) -> float | None:
    """Mean VISAGE over random directions, percent; None where every point has lost safety."""
    values = [visage_of_curve(basin.published_range(curve)) for curve in basin.random_curves(subject)]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
