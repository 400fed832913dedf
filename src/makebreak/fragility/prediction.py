"""Prediction of the outcome for mechanisms that were not used to fit: leave one mechanism out.

A predictor that only tells mechanisms apart correlates with the outcome over the mechanisms at hand and says
nothing about another one, which R² of a left-out mechanism shows. Predictors and outcomes are ranks within a
seed over all its models, from 0 to 1, so that a left-out mechanism takes part in the ranks, as it would in
use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from sklearn import config_context
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV

from makebreak.fragility.association import N_RESAMPLES, average_ranks
from makebreak.fragility.grid import ModelGrid

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
"""Penalties of the ridge regression, chosen by leave-one-out error within the training set."""
MIN_MODELS = 20
"""Models with an outcome that a prediction needs."""
MIN_MECHANISMS = 3
"""Mechanisms with an outcome that a prediction needs."""


class Prediction(NamedTuple):
    """Prediction of one outcome for left-out mechanisms; None where undefined."""

    n_models: int
    """Models with the outcome."""
    r2: float | None
    """1 minus the ratio of the squared error to that of the mean of the training set, over all models; at
    most 0 for predictors that say nothing about left-out mechanisms, but for chance."""
    low: float | None
    """Lower end of the 95 % percentile bootstrap interval over seeds, without fitting anew; None for one
    seed."""
    high: float | None
    """Upper end of that interval."""


def predict(grid: ModelGrid, outcome: str, predictors: Sequence[str], boosting: bool = False) -> Prediction:
    """Predicts an outcome of every mechanism from a fit to all other mechanisms.

    Args:
        grid: The models.
        outcome: Name of the outcome.
        predictors: Names of the predictors.
        boosting: Gradient boosting in place of ridge regression.

    Returns:
        Quality of the prediction.
    """
    n, sums = _squared_errors(grid, outcome, predictors, boosting)
    if sums is None:
        return Prediction(n, None, None, None)
    sums = sums[:, sums[1] > 0]
    r2 = 1 - sums[0].sum() / sums[1].sum()
    low, high = _interval(sums)
    return Prediction(n, float(r2), low, high)


def seed_r2(grid: ModelGrid, outcome: str, predictors: Sequence[str]) -> Float[np.ndarray, " s"]:
    """R² of every seed, of the same fits to all other mechanisms in all seeds as `predict`.

    Args:
        grid: The models.
        outcome: Name of the outcome.
        predictors: Names of the predictors of a ridge regression.

    Returns:
        One number per seed of the grid; NaN where it is undefined.
    """
    _, sums = _squared_errors(grid, outcome, predictors, boosting=False)
    if sums is None:
        return np.full(len(grid.seeds), np.nan)
    return np.where(sums[1] > 0, 1 - sums[0] / np.where(sums[1] > 0, sums[1], 1.0), np.nan)


def _squared_errors(
    grid: ModelGrid, outcome: str, predictors: Sequence[str], boosting: bool
) -> tuple[int, Float[np.ndarray, "two s"] | None]:
    """Number of models, and by seed the squared errors of the prediction and of the training set's mean.

    The errors are None with too few models or mechanisms, or a constant outcome.
    """
    y = seed_ranks(grid.outcomes[outcome]).ravel()
    x = np.stack([seed_ranks(grid.predictors[name]).ravel() for name in predictors], axis=1)
    places = np.indices(grid.present.shape).reshape(3, -1)
    chosen = ~np.isnan(y)
    x, y, (seeds, mechanisms, _) = x[chosen], y[chosen], places[:, chosen]
    n = len(y)
    enough = n >= MIN_MODELS and len(np.unique(mechanisms)) >= MIN_MECHANISMS
    if not enough or not np.ptp(y) or np.isnan(x).all():
        return n, None
    errors = np.empty((2, n))
    for mechanism in np.unique(mechanisms):
        test = mechanisms == mechanism
        features = impute(x, ~test)
        if boosting:
            model = HistGradientBoostingRegressor(
                max_iter=100, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=20, random_state=0
            )
        else:
            model = RidgeCV(alphas=PENALTIES)
        with config_context(assume_finite=True, skip_parameter_validation=True):  # a third of the time
            fitted = model.fit(features[~test], y[~test]).predict(features[test])
        errors[:, test] = (y[test] - fitted) ** 2, (y[test] - y[~test].mean()) ** 2
    n_seeds = len(grid.seeds)
    return n, np.stack([np.bincount(seeds, weights=error, minlength=n_seeds) for error in errors])


def seed_ranks(values: Float[np.ndarray, "s m d"]) -> Float[np.ndarray, "s m d"]:
    """Ranks within a seed, from 0 to 1; NaN where undefined, one half for a single value."""
    flat = values.reshape(len(values), -1, 1)
    n = (~np.isnan(flat)).sum(axis=1, keepdims=True)
    ranks = (average_ranks(flat) - 1) / np.maximum(n - 1, 1)
    return np.where((n == 1) & ~np.isnan(flat), 0.5, ranks).reshape(values.shape)


def impute(x: Float[np.ndarray, "n k"], train: Bool[np.ndarray, " n"]) -> Float[np.ndarray, "n j"]:
    """Puts the median of the training set in place of missing values, with one indicator per such column.

    Args:
        x: Predictors; NaN where undefined.
        train: Rows of the training set.

    Returns:
        The predictors, then the indicators of columns that lack a value in the training set.
    """
    absent = np.isnan(x)
    some = ~absent[train].all(axis=0)
    medians = np.full(x.shape[1], 0.5)
    medians[some] = np.nanmedian(x[train][:, some], axis=0)
    indicators = absent[:, absent[train].any(axis=0) & some]
    return np.hstack([np.where(absent, medians, x), indicators.astype(np.float64)])


def _interval(sums: Float[np.ndarray, "two s"]) -> tuple[float | None, float | None]:
    n = sums.shape[1]
    if n < 2:
        return None, None
    draws = np.random.default_rng(0).integers(0, n, size=(N_RESAMPLES, n))
    low, high = np.quantile(1 - sums[0][draws].sum(axis=1) / sums[1][draws].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)
