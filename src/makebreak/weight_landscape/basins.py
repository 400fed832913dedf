"""Summaries of a curve through a safety basin: half-widths, and VISAGE in both its forms (Peng et al. 2024).

A curve is a rate of failure at ascending coordinates around 0. VISAGE takes it in percent, as published; it
does not see how wide a basin is.

Half-widths are interpolated linearly between the points of a grid. Where failure rises steeply, a half-width
is off by up to the distance to the points around it, `grid_error`: by points .05 apart a wall at .21 is
placed at .225. VISAGE of the same curve is between `visage_bounds`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

HALF = 0.5
"""Rate of failure at which a basin ends."""
_FULL = 99.99
"""Percent of failure at which the released code ends a basin."""
_PLATEAU_TOLERANCE = 0.05
"""Rise of the rate of failure that ends a plateau."""
PLATEAU_REFERENCE = 0.25
"""Rise to whose distance the length of a plateau is compared."""
STRAIGHT_FALL = _PLATEAU_TOLERANCE / PLATEAU_REFERENCE
"""`plateau_share` of a curve that rises straight from the origin; that of a parabola is its root, .45."""
_TRANSITION = (0.1, 0.9)
"""Shares of the rise of failure between which the transition is measured."""


def visage(failure: Float[np.ndarray, " n"]) -> float | None:
    """VISAGE: mean of 100 - S over the points with S < 100, in percent; None if there are none.

    The definition is an expectation over a uniform coordinate. The mean over points gives the points next to
    a wall too little weight: by 21 points it is 66.7 where failure rises from 0 at .1 to 1 at .4, in place of
    62.5. `visage_continuous` gives 62.5 there; `visage_bounds` says how far the grid may put it off.
    """
    below = failure[failure < 100]
    return float((100 - below).mean()) if len(below) else None


def visage_continuous(coordinates: Float[np.ndarray, " n"], failure: Float[np.ndarray, " n"]) -> float | None:
    """VISAGE as an expectation over a uniform coordinate, for a curve that is linear between its points.

    Args:
        coordinates: Coordinates of the points, ascending.
        failure: Rate of failure in percent.

    Returns:
        Integral of 100 - S over the length on which S < 100, in percent; None if that is 0. A step from 0 to
        100 between two points counts as a slope between them: walls at ± .21 give 90 in place of 100 by
        points .05 apart.
    """
    is_below = (failure[1:] < 100) | (failure[:-1] < 100)
    length = float(np.diff(coordinates)[is_below].sum())
    return float(np.trapezoid(100 - failure, coordinates)) / length if length else None


def visage_bounds(
    coordinates: Float[np.ndarray, " n"], failure: Float[np.ndarray, " n"]
) -> tuple[float, float] | None:
    """Bounds of VISAGE over a uniform coordinate, for every curve that is monotone between its points.

    Between two points failure may be as great as at one or as small as at the other. Next to a point at 100 %
    it may reach 100 % anywhere, which decides how much of that interval counts. Both bounds are attained or
    approached by steps, and narrow with the distance between points.

    Args:
        coordinates: Coordinates of the points, ascending.
        failure: Rate of failure in percent.

    Returns:
        Lower and upper bound in percent; None if failure is 100 % throughout.
    """
    success, width = 100 - failure, np.diff(coordinates)
    least, most = np.minimum(success[1:], success[:-1]), np.maximum(success[1:], success[:-1])
    if not success.any():
        return None
    is_whole, is_wall = least > 0, (least <= 0) & (most > 0)
    length = width[is_whole].sum()
    low = (least * width)[is_whole].sum() / (length + width[is_wall].sum())
    area = (most * width)[is_whole].sum()
    high = area / length if length else 0.0
    for i in sorted(np.flatnonzero(is_wall), key=lambda i: -most[i]):
        if most[i] > high:  # a wall as far out as it can be raises the mean
            area, length = area + most[i] * width[i], length + width[i]
            high = area / length
    return float(low), float(high)


def visage_released(failure: Float[np.ndarray, " n"]) -> float:
    """VISAGE as computed by the released code, in percent.

    Args:
        failure: Rate of failure in percent.

    Returns:
        Mean of 100 - S between two points: the first of the left half that follows a point at 100, or the
        first of all; and the last of the right half that precedes a point at 100, or the last of all.
    """
    n = len(failure)
    starts = [i for i in range(1, n // 2) if failure[i] <= _FULL < failure[i - 1]]
    ends = [i for i in range(n - 2, n // 2, -1) if failure[i] <= _FULL < failure[i + 1]]
    start, end = (starts[0] if starts else 0), (ends[0] if ends else n - 1)
    return float((100 - failure[start : end + 1]).mean())


class Basin(NamedTuple):
    """Shape of a safety basin along one direction, in units of the coordinate."""

    left: float
    """Distance to where failure first passes 1/2 on the negative side; the range's end if it never does."""
    right: float
    """The same distance on the positive side."""
    is_censored: bool
    """Whether failure never passes 1/2 on at least one side."""
    plateau: float
    """Distance to where failure has first risen by .05 from the origin's, mean of both sides; the range's end
    on a side where it never has."""
    area: float
    """Mean of 1 - failure over the range."""
    transition_width: float | None
    """Distance from 10 % to 90 % of the rise of failure, mean of the sides that have both; None if neither
    has."""
    asymmetry: float | None
    """(right - left) / (right + left); None if both are 0."""
    r50: float
    """Half-width, mean of `left` and `right`."""
    smaller_half_width: float
    """The smaller of `left` and `right`."""
    grid_error: float
    """Largest error of `left` and of `right` by the distances between points, on the sides where failure
    passes 1/2; `r50` is off by at most as much."""


class Side(NamedTuple):
    """One side of a curve, from the origin outwards."""

    distance: Float[np.ndarray, " m"]
    """Distances from the origin, ascending from 0."""
    value: Float[np.ndarray, "*batch m"]
    """Values of the curve, or of many along the last axis, at these distances."""


def sides(coordinates: Float[np.ndarray, " n"], value: Float[np.ndarray, "*batch n"]) -> tuple[Side, Side]:
    """The negative and the positive side of curves whose coordinates ascend around 0."""
    origin = int(np.flatnonzero(coordinates == 0)[0])
    left = Side(-coordinates[origin::-1], value[..., origin::-1])
    return left, Side(coordinates[origin:], value[..., origin:])


def basin(coordinates: Float[np.ndarray, " n"], failure: Float[np.ndarray, " n"]) -> Basin:
    """Shape of the basin of a curve, which is linear between its points.

    Args:
        coordinates: Coordinates along the direction, ascending, with 0 among them.
        failure: Rate of failure at each coordinate, from 0 to 1.

    Returns:
        Half-widths and other summaries.

    Raises:
        ValueError: If the coordinates do not ascend around 0.
    """
    ascends = (np.diff(coordinates) > 0).all()
    if not (ascends and 0 in coordinates and coordinates[0] < 0 < coordinates[-1]):
        raise ValueError(
            f"coordinates from {coordinates[0]} to {coordinates[-1]}: expected ascending ones around 0, "
            "and 0 among them"
        )
    both = sides(coordinates, failure)
    ends = [crossing(side.distance, side.value, HALF) for side in both]
    left, right = (float(side.distance[-1]) if x is None else x for x, side in zip(ends, both, strict=True))
    transitions = [width for side in both if (width := _transition_width(side)) is not None]
    return Basin(
        left=left,
        right=right,
        is_censored=None in ends,
        plateau=float(np.mean([_plateau(side) for side in both])),
        area=float(np.trapezoid(1 - failure, coordinates) / (coordinates[-1] - coordinates[0])),
        transition_width=float(np.mean(transitions)) if transitions else None,
        asymmetry=(right - left) / (left + right) if left + right else None,
        r50=(left + right) / 2,
        smaller_half_width=min(left, right),
        grid_error=max(_grid_error(side, end) for side, end in zip(both, ends, strict=True)),
    )


def _grid_error(side: Side, end: float | None) -> float:
    """Largest distance from a crossing to the two points around it; 0 at the origin or for none."""
    if not end:
        return 0.0
    i = int(np.searchsorted(side.distance, end))
    return float(max(side.distance[i] - end, end - side.distance[i - 1]))


def _transition_width(side: Side) -> float | None:
    start = side.value[0]
    ends = [crossing(side.distance, side.value, start + share * (1 - start)) for share in _TRANSITION]
    return None if ends[0] is None or ends[1] is None else ends[1] - ends[0]


def _plateau(side: Side) -> float:
    end = crossing(side.distance, side.value, side.value[0] + _PLATEAU_TOLERANCE)
    return float(side.distance[-1]) if end is None else end


def plateau_share(curves: pd.DataFrame) -> float | None:
    """Distance at which the mean curve of several directions has risen a little, over that to a larger rise.

    Both distances lie within the curves, which the half-width need not.

    Args:
        curves: Columns `coordinate`, along each direction, and `refusal_rate`.

    Returns:
        Distance to a rise of the share not refused by .05 over that to a rise by `PLATEAU_REFERENCE`; None if
        the mean curve, of both sides, does not rise so far.
    """
    rates = curves.groupby(curves.coordinate.abs()).refusal_rate.mean()
    distance, rise = rates.index.to_numpy(dtype=float), float(rates.loc[0.0]) - rates.to_numpy()
    first, last = (crossing(distance, rise, level) for level in (_PLATEAU_TOLERANCE, PLATEAU_REFERENCE))
    return None if first is None or not last else first / last


def crossing(distance: Float[np.ndarray, " n"], value: Float[np.ndarray, " n"], level: float) -> float | None:
    """First distance at which a value, linear between points, is above a level; None if it never is."""
    result = float(crossings(distance, value, level))
    return None if np.isnan(result) else result


def crossings(
    distance: Float[np.ndarray, " n"], values: Float[np.ndarray, "*batch n"], level: float
) -> Float[np.ndarray, "*batch"]:
    """First distances at which values, linear between points, are above a level.

    Args:
        distance: Ascending distances.
        values: Values of each curve along the last axis.
        level: The level.

    Returns:
        The distance for each curve: the first one if the curve begins above the level, NaN if it never is.
    """
    is_above = values > level
    i = is_above.argmax(axis=-1)
    previous = np.maximum(i - 1, 0)
    before, after = (np.take_along_axis(values, k[..., None], axis=-1)[..., 0] for k in (previous, i))
    fraction = np.where(i == 0, 0.0, (level - before) / np.where(i == 0, 1.0, after - before))
    distances = distance[previous] + fraction * (distance[i] - distance[previous])
    return np.where(is_above.any(axis=-1), distances, np.nan)
