"""Claims about predictors: the baselines, all of them together, and the sign of each.

Where a run has confirmatory seeds, claims are decided on these alone. The outcome is that of the harmful
attacker; the other outcomes are in the table `associations`. All bounds are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from experiments.fragility.predictors import PREDICTORS
from makebreak.claims import Claim, NotRun, Tables, rows_of
from makebreak.fragility import (
    BASELINES,
    COVARIATES,
    ModelGrid,
    band_correlations,
    model_grids,
    orientation,
    partial_band_correlations,
    seed_means,
    seed_r2,
    stages_of,
)

OUTCOME = "harmful.compliance"
"""Outcome that the claims are about."""
_NEGLIGIBLE = 0.1


def _grid(tables: Tables) -> ModelGrid:
    """Qualified models of the confirmatory seeds, or of all seeds where there are none."""
    zoo = rows_of(tables, "zoo")
    if f"outcome.{OUTCOME}" not in zoo:
        raise NotRun("no model of this run was attacked")
    confirmatory = zoo[stages_of(zoo) == "confirmatory"]
    grids = model_grids(confirmatory if len(confirmatory) else zoo)
    if not grids:
        raise NotRun("no model of this run qualifies")
    return grids[0]


def _grid_with(name: str, tables: Tables) -> ModelGrid:
    """The models, of which a predictor must have been computed."""
    grid = _grid(tables)
    if name not in grid.predictors:
        raise NotRun(f"this run has no predictor {name!r}")
    return grid


def _r2_by_seed(grid: ModelGrid, names: Sequence[str]) -> pd.Series:
    """R² of the prediction of left-out mechanisms by seed."""
    return pd.Series(dict(zip(grid.seeds, seed_r2(grid, OUTCOME, names), strict=True)), dtype=float)


def _r2_of_baselines(tables: Tables) -> pd.Series:
    return _r2_by_seed(_grid(tables), BASELINES)


def _gain_of_all(tables: Tables) -> pd.Series:
    grid = _grid(tables)
    names = [name for name in PREDICTORS if name in grid.predictors]
    return _r2_by_seed(grid, names) - _r2_by_seed(grid, BASELINES)


def _correlation(name: str, tables: Tables) -> pd.Series:
    """Rank correlation within seed and dose, in the claimed direction."""
    grid = _grid_with(name, tables)
    correlations = seed_means(band_correlations(grid.predictors[name], grid.outcomes[OUTCOME]))
    sign = PREDICTORS[name].sign * orientation(OUTCOME)
    return pd.Series(dict(zip(grid.seeds, sign * correlations, strict=True)), dtype=float)


def _partial_correlation(name: str, tables: Tables) -> pd.Series:
    """Rank correlation within seed and dose given margin and norm of the update, in the claimed direction."""
    grid = _grid_with(name, tables)
    margin, norm = (grid.predictors[covariate] for covariate in COVARIATES)
    correlations = partial_band_correlations(grid.predictors[name], grid.outcomes[OUTCOME], (margin, norm))
    sign = PREDICTORS[name].sign * orientation(OUTCOME)
    return pd.Series(dict(zip(grid.seeds, sign * seed_means(correlations), strict=True)), dtype=float)


PUBLISHED = {
    "visage": ("VISAGE", "Peng et al. 2024"),
    "null_share": ("The null share of unsafe over safe requests", "Jain et al. 2024"),
    "prefix_depth": ("The number of harmful tokens that must be forced", "Qi et al. 2024"),
    "geometric_fragility": ("The geometric fragility score", "arXiv 2606.22676"),
    "latent_vulnerability": ("The latent vulnerability score", "arXiv 2606.08044"),
}
"""Predictors of the literature that are tested beyond margin and norm: name in sentences, and paper."""


def _claim_beyond(number: int, name: str) -> Claim:
    subject, paper = PUBLISHED[name]
    return Claim(
        id=f"F{number}",
        role="primary",
        statement=f"{subject} says more about harmful fine-tuning than refusal margin and norm of the update",
        quantity="partial Spearman correlation with compliance after harmful fine-tuning, given margin and "
        "norm, within seed and dose, in the claimed direction",
        unit="correlation",
        value=partial(_partial_correlation, name),
        negligible=_NEGLIGIBLE,
        source=f"{paper} (the measure)",
    )


def _claim_of(name: str) -> Claim:
    direction = "robust" if PREDICTORS[name].sign > 0 else "fragile"
    return Claim(
        id=f"F.{name}",
        statement=f"A larger value of {name} goes with more {direction} safety under harmful fine-tuning",
        quantity="Spearman correlation with compliance after harmful fine-tuning within seed and dose, in "
        "the claimed direction",
        unit="correlation",
        value=partial(_correlation, name),
        negligible=_NEGLIGIBLE,
    )


CLAIMS = (
    Claim(
        id="F1",
        role="primary",
        statement="Refusal margin, norm of the update and one-step loss drop predict compliance after "
        "harmful fine-tuning of mechanisms that were not used to fit",
        quantity="R² of the prediction of left-out mechanisms by ridge regression, by seed",
        unit="R²",
        value=_r2_of_baselines,
    ),
    Claim(
        id="F2",
        role="primary",
        statement="All predictors together predict it better than these three",
        quantity="R² with all predictors minus R² with the three",
        unit="R²",
        value=_gain_of_all,
    ),
    *(_claim_beyond(number, name) for number, name in enumerate(PUBLISHED, start=3)),
    *(_claim_of(name) for name, predictor in PREDICTORS.items() if predictor.sign),
)
"""Claims, primary ones first."""
