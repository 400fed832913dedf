"""Whether landscape widths predict the steps of fine-tuning to one half beyond margin and norm of the update.

Models of a seed differ in alignment method and in dose, the factor of the learning rate, which moves widths,
margins, norms and steps together. The association of a width with the steps is therefore a partial rank
correlation, given margin and norm, minus its mean over permutations of the widths among models of equal dose.
Its expectation without an association is 0, which the difference of a correlation from the greater of two
absolute ones does not have (docs/errata.md, audit-M10). Ranks leave a remainder of the covariates: where
width and steps both follow the margin with a correlation of .97 and nothing else, it is .13 (`CONFOUNDED`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from experiments.peng2024.predictors import CHEAP, STEPS_TO_HALF, rank_correlation, refusing_models
from makebreak.claims import Tables
from makebreak.tables import as_dict

WIDTHS = ("r50", "visage", "r50_capable", "r50_compliance")
"""Columns of predictors whose association with the steps is tested."""
N_PERMUTATIONS = 1000
"""Random permutations of the widths of each seed."""
CONFOUNDED = 0.15
"""Excess that a width may have without an association of its own, rounded up from the simulation above."""
MIN_MODELS = len(CHEAP) + 4
"""Models of a seed that a partial correlation needs."""


class PredictionRow(NamedTuple):
    """Association of one width with the steps to one half over the models of one seed."""

    seed: int
    """Pretraining seed."""
    predictor: str
    """The width, a column of the predictors."""
    n_models: int
    """Models that refuse and have this width."""
    rank_correlation: float | None
    """Rank correlation with the steps, in which the dose takes part."""
    partial_correlation: float | None
    """Partial rank correlation given margin and norm of the update; None for fewer than `MIN_MODELS` models,
    or where a column does not vary beyond these two."""
    permutation_mean: float | None
    """Mean of the partial correlation over permutations of the width among models of equal dose."""
    excess: float | None
    """`partial_correlation` minus `permutation_mean`."""
    p_value: float | None
    """Share of permutations whose partial correlation is at least as large, one-sided."""


def prediction_table(tables: Tables) -> pd.DataFrame:
    """Association of every width with the steps to one half, by seed.

    Args:
        tables: Tables `predictors` and `fine_tuning`.

    Returns:
        Rows of `PredictionRow`.
    """
    models = refusing_models(tables)
    seeds = [(int(str(seed)), rows) for seed, rows in models.groupby("seed")]
    rows = [as_dict(prediction_row(of_seed, seed, width)) for seed, of_seed in seeds for width in WIDTHS]
    table = pd.DataFrame(rows, columns=pd.Index(PredictionRow._fields))
    return table.astype(dict.fromkeys(PredictionRow._fields[3:], float))


def prediction_row(models: pd.DataFrame, seed: int, width: str) -> PredictionRow:
    """Association of one width with the steps to one half over the models of one seed.

    Args:
        models: Rows of `predictor_rows` of one seed.
        seed: Pretraining seed; it also selects the permutations.
        width: Column of the width.

    Returns:
        The row.
    """
    models = models[models[width].notna()]
    n, correlation = len(models), rank_correlation(models, width)
    undefined = PredictionRow(seed, width, n, correlation, None, None, None, None)
    if n < MIN_MODELS:
        return undefined
    ranks = models[[width, STEPS_TO_HALF, *CHEAP]].rank().to_numpy()
    shuffled = _permutations_within(models.arm.map(dose).tolist(), seed)
    values = partial_correlations(ranks[:, 0][shuffled], ranks[:, 1], ranks[:, 2:])
    if not np.isfinite(values[0]):
        return undefined
    value, values = float(values[0]), values[np.isfinite(values)]  # a permutation may repeat a covariate
    mean, p_value = float(values[1:].mean()), float((values >= value - 1e-9).mean())
    return PredictionRow(seed, width, n, correlation, value, mean, value - mean, p_value)


def partial_correlations(
    x: Float[np.ndarray, "m n"], y: Float[np.ndarray, " n"], covariates: Float[np.ndarray, "n k"]
) -> Float[np.ndarray, " m"]:
    """Correlations of residuals after linear regression on covariates and a constant.

    Args:
        x: One variable per row.
        y: The other variable.
        covariates: Columns that are held fixed.

    Returns:
        The correlation of y with each row of x; NaN where the covariates determine a variable.
    """
    basis = np.linalg.qr(np.column_stack([np.ones(len(y)), covariates - covariates.mean(axis=0)]))[0]
    x, y = x - (x @ basis) @ basis.T, y - basis @ (basis.T @ y)
    size = np.linalg.norm(x, axis=1) * np.linalg.norm(y)
    return np.divide(x @ y, size, out=np.full(len(x), np.nan), where=size > 1e-9)


def dose(arm: str) -> float:
    """Factor of the learning rate of an arm: 2 for `ssft ×2`, 1 for one without a factor."""
    return float(arm.partition("×")[2] or 1)


def _permutations_within(groups: Sequence[float], seed: int) -> np.ndarray:
    """Indices (1 + `N_PERMUTATIONS`, n): the identity, then permutations of the elements of every group."""
    random, labels = np.random.default_rng(seed), np.asarray(groups)
    order = np.tile(np.arange(len(labels)), (1 + N_PERMUTATIONS, 1))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order[1:, members] = random.permuted(np.tile(members, (N_PERMUTATIONS, 1)), axis=1)
    return order
