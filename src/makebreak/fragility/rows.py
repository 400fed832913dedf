"""Rows of the tables of associations and of predictions."""

from __future__ import annotations

from typing import NamedTuple


class AssociationRow(NamedTuple):
    """Association of one predictor with one outcome over the qualified models of a world and stage."""

    world: str
    """World of the models."""
    stage: str
    """`exploratory` or `confirmatory` (seeds 5 to 14 of `mini` and `hidden`)."""
    predictor: str
    """Name of the predictor."""
    outcome: str
    """Name of the outcome."""
    claim: int
    """Sign of the correlation that is claimed: 1, -1, or 0 for none."""
    n_models: int
    """Qualified models with both values."""
    n_seeds: int
    """Pretraining seeds in which the rank correlation is defined."""
    rank_correlation: float | None
    """Spearman correlation within seed and dose, mean over doses and then over seeds."""
    low: float | None
    """Lower end of its 95 % Student interval over seeds, which is cut at -1 and 1."""
    high: float | None
    """Upper end of that interval."""
    bootstrap_low: float | None
    """Lower end of its 95 % bootstrap interval over seeds."""
    bootstrap_high: float | None
    """Upper end of that interval."""
    kendall: float | None
    """Granulated Kendall coefficient, mean over mechanism, dose and seed as the one factor that differs."""
    kendall_mechanism: float | None
    """Granulated Kendall coefficient over mechanisms alone."""
    kendall_dose: float | None
    """Granulated Kendall coefficient over doses alone."""
    information: float | None
    """Excess of the normalised conditional mutual information, least over sets of at most two factors
    (mechanism, dose, margin, norm of the update), over its mean in permutations."""
    information_p: float | None
    """Share of permutations with at least this information. They break every association within a seed: below
    .05 it may be the remainder of a covariate, of which classes leave about .01 of information."""
    r2: float | None
    """R² of the prediction for left-out mechanisms from this predictor alone."""
    p_value: float | None
    """P of the rank correlation, one-sided for a claim, when whole trajectories are permuted within a
    seed."""
    p_models: float | None
    """The same when models are permuted within seed and dose, as if doses were independent."""
    p_mechanisms: float | None
    """The same when trajectories are permuted alike in all seeds: whether other mechanisms would show it."""
    p_holm: float | None
    """`p_value` after Holm's adjustment over all predictors and outcomes of the world and stage."""
    partial_correlation: float | None
    """`rank_correlation` given margin and norm of the update; None for these two. Of an association that is
    borrowed from one of them, up to a tenth remains (`partial_band_correlations`)."""
    partial_low: float | None
    """Lower end of its 95 % Student interval over seeds, which is cut at -1 and 1."""
    partial_high: float | None
    """Upper end of that interval."""


class ModelPredictionRow(NamedTuple):
    """Prediction of one outcome for left-out mechanisms from one set of predictors."""

    world: str
    """World of the models."""
    stage: str
    """`exploratory` or `confirmatory` (seeds 5 to 14 of `mini` and `hidden`)."""
    outcome: str
    """Name of the outcome."""
    predictors: str
    """`baselines`, `all, ridge`, `all, boosting`, or the name of one predictor."""
    n_models: int
    """Qualified models with the outcome."""
    r2: float | None
    """R² over left-out mechanisms against the mean of the training set."""
    low: float | None
    """Lower end of its 95 % bootstrap interval over seeds."""
    high: float | None
    """Upper end of that interval."""
