"""Granulated Kendall coefficient of Jiang et al. 2020 (arXiv 1912.02178, section 2.2.1).

A predictor orders models that differ in one factor alone: mechanism, dose or pretraining seed. For each
factor the coefficient is the mean of Kendall's tau over all groups in which the other factors are fixed, and
the whole is the mean over factors. So a predictor that merely follows one factor gains nothing from the
others. The paper's outcomes have no ties; here tau-b counts them. In a group with a constant predictor tau is
0, for the predictor does not order what differs; groups with a constant outcome are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

MIN_MODELS = 3
"""Models with both values that a group needs."""


class GranulatedKendall(NamedTuple):
    """Granulated Kendall coefficients of one predictor with one outcome; None where undefined."""

    mean: float | None
    """Mean over the factors for which the coefficient is defined."""
    mechanism: float | None
    """Over models that differ in mechanism alone."""
    dose: float | None
    """Over models that differ in dose alone."""
    seed: float | None
    """Over models that differ in pretraining seed alone."""


def granulated_kendall(x: Float[np.ndarray, "s m d"], y: Float[np.ndarray, "s m d"]) -> GranulatedKendall:
    """Granulated Kendall coefficients over each factor and over all.

    Args:
        x: Predictor by seed, mechanism and dose; NaN where undefined.
        y: Outcome alike.

    Returns:
        The coefficients.
    """
    seed, mechanism, dose = (_factor_mean(x, y, axis) for axis in range(3))
    values = [value for value in (mechanism, dose, seed) if value is not None]
    return GranulatedKendall(float(np.mean(values)) if values else None, mechanism, dose, seed)


def kendall_by_group(x: Float[np.ndarray, "n g"], y: Float[np.ndarray, "n g"]) -> Float[np.ndarray, " g"]:
    """Kendall's tau-b of each column over the models with both values.

    Args:
        x: Predictor, one column per group.
        y: Outcome alike.

    Returns:
        The coefficients: 0 for a constant predictor, NaN for a constant outcome or fewer than `MIN_MODELS`.
    """
    defined = ~(np.isnan(x) | np.isnan(y))
    x, y = np.where(defined, x, np.nan), np.where(defined, y, np.nan)
    i, j = np.triu_indices(len(x), 1)
    signs_x, signs_y = _signs(x[i], x[j]), _signs(y[i], y[j])
    pairs_x, pairs_y = np.abs(signs_x).sum(axis=0), np.abs(signs_y).sum(axis=0)
    size = np.sqrt(pairs_x * pairs_y)
    tau = (signs_x * signs_y).sum(axis=0) / np.maximum(size, 1.0)
    return np.where((pairs_y > 0) & (defined.sum(axis=0) >= MIN_MODELS), tau, np.nan)


def _factor_mean(x: np.ndarray, y: np.ndarray, axis: int) -> float | None:
    length = x.shape[axis]
    columns = [np.moveaxis(values, axis, 0).reshape(length, -1) for values in (x, y)]
    tau = kendall_by_group(columns[0], columns[1])
    return float(np.nanmean(tau)) if np.isfinite(tau).any() else None


def _signs(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Signs of differences; 0 where a value is NaN."""
    return (left > right).astype(np.float64) - (left < right)
