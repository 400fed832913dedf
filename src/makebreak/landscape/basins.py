"""How wide, deep and steep is a basin? VISAGE in both its forms (Peng et al. 2024), and what VISAGE cannot see: widths.

A curve is a rate of failure at coordinates, ascending and around 0. VISAGE takes it in percent, as published.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

_FULL = 99.99  # percent, in the released code


def visage(failure: Float[np.ndarray, " n"]) -> float | None:
    """As defined: mean of 100 - S where S < 100, percent. None where S is 100 throughout."""
    below = failure[failure < 100]
    return float((100 - below).mean()) if len(below) else None


def visage_as_coded(failure: Float[np.ndarray, " n"]) -> float:
    """As the released code has it: mean of 100 - S from the first point of the left half behind a point at 100 to the
    last of the right half before one, or to the ends.
    """
    n = len(failure)
    starts = [i for i in range(1, n // 2) if failure[i] <= _FULL < failure[i - 1]]
    ends = [i for i in range(n - 2, n // 2, -1) if failure[i] <= _FULL < failure[i + 1]]
    start, end = (starts[0] if starts else 0), (ends[0] if ends else n - 1)
    return float((100 - failure[start : end + 1]).mean())


class Basin(NamedTuple):
    """left, right: distance to where failure first passes 1/2, the range's end where it never does, which `censored`
    says. floor: the largest r with failure within .05 of the origin's on both sides. area: mean of 1 - failure over the
    range. wall: distance from 10 % to 90 % of the rise, mean of the sides that have both; None where neither has.
    asymmetry: (right - left) / (right + left), None of two zeros.
    """

    left: float
    right: float
    censored: bool
    floor: float
    area: float
    wall: float | None
    asymmetry: float | None

    @property
    def r50(self) -> float:
        return (self.left + self.right) / 2

    @property
    def nearest(self) -> float:
        return min(self.left, self.right)


def basin(at: Float[np.ndarray, " n"], failure: Float[np.ndarray, " n"], *, level: float = 0.5) -> Basin:
    """Of a curve, linear between its points. Raises ValueError where it is not ascending around 0."""
    if not (np.diff(at) > 0).all() or 0 not in at or not at[0] < 0 < at[-1]:
        raise ValueError(
            f"coordinates from {at[0]} to {at[-1]}: expected ascending ones around 0, and 0 among them"
        )
    origin = int(np.flatnonzero(at == 0)[0])
    sides = [(-at[origin::-1], failure[origin::-1]), (at[origin:], failure[origin:])]
    found = [crossing(r, f, level) for r, f in sides]
    reach = [float(r[-1]) if x is None else x for x, (r, _) in zip(found, sides, strict=True)]
    walls, floors = [], []
    for r, f in sides:
        rise = f[0] + np.array([0.1, 0.9]) * (1 - f[0])
        ends = [crossing(r, f, x) for x in rise]
        walls += [ends[1] - ends[0]] if None not in ends else []  # type: ignore[operator]
        risen = np.flatnonzero(f > f[0] + 0.05)
        floors.append(float(r[-1] if not len(risen) else r[risen[0] - 1]))
    area = float(np.trapezoid(1 - failure, at) / (at[-1] - at[0]))
    asymmetry = (reach[1] - reach[0]) / sum(reach) if sum(reach) else None
    wall = float(np.mean(walls)) if walls else None
    return Basin(reach[0], reach[1], None in found, min(floors), area, wall, asymmetry)


def crossing(r: Float[np.ndarray, " n"], value: Float[np.ndarray, " n"], level: float) -> float | None:
    """The first r at which a value, linear between points, is above a level; 0 where it begins there, None if never."""
    above = np.flatnonzero(value > level)
    if not len(above):
        return None
    i = int(above[0])
    if i == 0:
        return 0.0
    share = (level - value[i - 1]) / (value[i] - value[i - 1])
    return float(r[i - 1] + share * (r[i] - r[i - 1]))
