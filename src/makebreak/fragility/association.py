"""Rank correlation of a predictor with an outcome over the mechanisms of a seed and a dose.

Models of a seed share their base model and models of a dose the length of their alignment, so that neither
can make a correlation. Correlations are averaged over doses and then over seeds, the independent unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from makebreak.stats import mean_confidence_interval

MIN_MODELS = 5
"""Models with both values that a seed and dose needs."""
MIN_PARTIAL_MODELS = MIN_MODELS + 2
"""The same for a correlation given two covariates."""
N_RESAMPLES = 2000
"""Bootstrap samples of seeds."""


class Association(NamedTuple):
    """Mean over seeds of a correlation within seeds."""

    correlation: float | None
    """Mean over seeds; None without a seed in which it is defined."""
    low: float | None
    """Lower end of the 95 % Student interval over seeds, at least -1; None for one seed."""
    high: float | None
    """Upper end of that interval, at most 1."""
    bootstrap_low: float | None
    """Lower end of the 95 % percentile bootstrap interval over seeds; None for one seed."""
    bootstrap_high: float | None
    """Upper end of that interval."""
    n_seeds: int
    """Seeds in which the correlation is defined."""


NO_ASSOCIATION = Association(None, None, None, None, None, 0)
"""An association that is defined in no seed."""


def average_ranks(values: Float[np.ndarray, "s m d"]) -> Float[np.ndarray, "s m d"]:
    """Ranks from 1 along the second axis, ties averaged; NaN where a value is NaN."""
    left, right = values[:, :, None, :], values[:, None, :, :]
    ranks = (left > right).sum(axis=2) + (left == right).sum(axis=2) / 2 + 0.5
    return np.where(np.isnan(values), np.nan, ranks)


def unit_ranks(*variables: Float[np.ndarray, "s m d"]) -> list[Float[np.ndarray, "s m d"]]:
    """Ranks of variables over the models with all of them, of mean 0 and norm 1 within each seed and dose.

    Args:
        *variables: Values; NaN where undefined.

    Returns:
        One array per variable; 0 where a variable is undefined, and throughout seeds and doses with fewer
        than `MIN_MODELS` models, or in which this variable is constant.
    """
    defined = ~np.isnan(np.stack(variables)).any(axis=0)
    n = defined.sum(axis=1, keepdims=True)
    scores = []
    for values in variables:
        ranks = np.nan_to_num(average_ranks(np.where(defined, values, np.nan)))
        centred = np.where(defined, ranks - (n + 1) / 2, 0.0)
        norm = np.sqrt((centred**2).sum(axis=1, keepdims=True))
        usable = (norm > 1e-9) & (n >= MIN_MODELS)
        scores.append(np.where(usable, centred / np.where(usable, norm, 1.0), 0.0))
    return scores


def band_correlations(
    x: Float[np.ndarray, "s m d"], y: Float[np.ndarray, "s m d"]
) -> Float[np.ndarray, "s d"]:
    """Spearman correlation within each seed and dose.

    Args:
        x: Values of one variable.
        y: Values of the other.

    Returns:
        The correlations; NaN with fewer than `MIN_MODELS` models or a constant variable.
    """
    return _products(*unit_ranks(x, y))


def partial_band_correlations(
    x: Float[np.ndarray, "s m d"],
    y: Float[np.ndarray, "s m d"],
    covariates: tuple[Float[np.ndarray, "s m d"], Float[np.ndarray, "s m d"]],
) -> Float[np.ndarray, "s d"]:
    """Partial Spearman correlation within each seed and dose given two covariates.

    It is the correlation of the residuals of both ranks after linear regression on the covariates' ranks.
    Ranks leave a remainder: for a noisy copy of a covariate that correlates with the outcome by .64, it is
    .03 to .06 in simulations of 14 models.

    Args:
        x: Values of one variable.
        y: Values of the other.
        covariates: Values of the variables that are held fixed.

    Returns:
        The correlations; NaN with fewer than `MIN_PARTIAL_MODELS` models, with a constant variable, or where
        the covariates determine a variable.
    """
    a, b, c, d = unit_ranks(x, y, *covariates)
    ac, bc, dc = _products(a, c), _products(b, c), _products(d, c)
    ab_c = _given(_products(a, b), ac, bc)
    partial = _given(ab_c, _given(_products(a, d), ac, dc), _given(_products(b, d), bc, dc))
    n = (~np.isnan(np.stack([x, y, *covariates])).any(axis=0)).sum(axis=1)
    return np.where(n >= MIN_PARTIAL_MODELS, partial, np.nan)


def seed_means(correlations: Float[np.ndarray, "s d"]) -> Float[np.ndarray, " s"]:
    """Mean over the doses at which a correlation is defined; NaN without one."""
    defined = ~np.isnan(correlations)
    n = defined.sum(axis=1)
    total = np.where(defined, correlations, 0.0).sum(axis=1)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def associate(correlations: Float[np.ndarray, "s d"]) -> Association:
    """Mean of correlations over doses and then over seeds, with intervals over seeds.

    Args:
        correlations: One per seed and dose; NaN where undefined.

    Returns:
        The mean and its intervals.
    """
    means = seed_means(correlations)
    means = means[~np.isnan(means)]
    if not len(means):
        return NO_ASSOCIATION
    mean, low, high, n = mean_confidence_interval(means.tolist())
    if low is not None and high is not None:
        low, high = max(low, -1.0), min(high, 1.0)  # those of two seeds are many times the range
    return Association(mean, low, high, *bootstrap_interval(means.tolist()), n)


def bootstrap_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """95 % percentile bootstrap interval of a mean over seeds; None for one seed."""
    if len(values) < 2:
        return None, None
    draws = np.random.default_rng(0).integers(0, len(values), size=(N_RESAMPLES, len(values)))
    low, high = np.quantile(np.asarray(values)[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def _products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlations of unit ranks within seed and dose; NaN where one of them is 0 throughout."""
    usable = a.any(axis=1) & b.any(axis=1)
    return np.where(usable, (a * b).sum(axis=1), np.nan)


def _given(ab: np.ndarray, ac: np.ndarray, bc: np.ndarray) -> np.ndarray:
    """Correlation of a and b given c; NaN where c determines a or b."""
    left = (1 - ac**2) * (1 - bc**2)
    usable = left > 1e-9
    return np.where(usable, (ab - ac * bc) / np.sqrt(np.where(usable, left, 1.0)), np.nan)
