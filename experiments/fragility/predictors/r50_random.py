"""Half-width of the safety basin along random directions."""

from __future__ import annotations

import numpy as np

from experiments.fragility.predictors.basin import AXIS, random_curves
from makebreak.model_zoo import Subject
from makebreak.weight_landscape import basin


def r50_random(subject: Subject) -> float:
    """Mean half-width at which half of the unsafe requests are no longer refused (Peng et al. 2024)."""
    shapes = [basin(np.array(AXIS), curve) for curve in random_curves(subject)]
    return float(np.mean([(shape.left + shape.right) / 2 for shape in shapes]))
