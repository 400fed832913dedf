"""Half-width of the safety basin along the direction in which the harmful loss falls fastest."""

from __future__ import annotations

import numpy as np

from experiments.fragility.predictors.basin import failure_curve
from experiments.fragility.predictors.losses import descent_direction, harmful_examples
from makebreak.model_zoo import AlignedPair
from makebreak.weight_landscape import crossing

_AXIS = (0.0, *np.geomspace(0.0005, 0.2, 14).round(5).tolist())


def r50_steepest(subject: AlignedPair) -> float:
    """Distance along the gradient of harmful fine-tuning to where half of the refusals are lost.

    It is the one-sided half-width of the landscape of Peng et al. 2024 in the direction of fine-tuning;
    the range's end where half is never lost.
    """
    direction = descent_direction(subject.model, harmful_examples(subject))
    half = crossing(np.array(_AXIS), failure_curve(subject, direction, _AXIS), 0.5)
    return _AXIS[-1] if half is None else float(half)
