"""Points of a curve at which it has a value: where it first reaches it, and where it last falls to it.

A curve is the values of a column at the kept steps of a run, the model that it starts from first. A point is
a position between them: 1.25 is a quarter of the way from the second value to the third one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def first_crossing(values: Float[np.ndarray, " n"], target: float) -> float | None:
    """Position at which a curve first reaches a value from below; None if it does not.

    Args:
        values: The curve.
        target: The value.

    Returns:
        The position, 0 if the curve begins at the value or above it.
    """
    reaches = values >= target
    if not reaches.any():
        return None
    i = int(reaches.argmax())
    if i == 0 or values[i] == target:
        return float(i)
    return float(i - 1 + (target - values[i - 1]) / (values[i] - values[i - 1]))


def descending_crossing(values: Float[np.ndarray, " n"], target: float, start: int = 0) -> float | None:
    """Position of the last crossing of a value, if the curve falls there, after its peak and a start.

    Behind such a point the curve never exceeds the value again.

    Args:
        values: The curve.
        target: The value.
        start: Index of the value at which the stage that counts begins.

    Returns:
        The position, above `start`; None if the curve never exceeds the value from `start` on, or ends above
        it.
    """
    above = values > target
    if above[-1] or not above[start:].any():
        return None
    i = int(np.flatnonzero(above)[-1])
    return float(i + (values[i] - target) / (values[i] - values[i + 1]))


def common_descending_value(curves: Sequence[tuple[Float[np.ndarray, " _"], int]]) -> float | None:
    """A value at which all curves have a `descending_crossing`.

    Args:
        curves: Values of each curve, and the index at which the stage that counts begins.

    Returns:
        The geometric mean of the greatest last value and the lowest peak from the start on; None if the
        former is not below the latter, so that there is no common value.
    """
    low = max(float(values[-1]) for values, _ in curves)
    high = min(float(values[start:].max()) for values, start in curves)
    return math.sqrt(low * high) if 0 <= low < high else None
