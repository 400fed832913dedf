"""Predictors of fragility: numbers of a model that are known before any attack, and their claimed signs.

The list, its definitions and its signs are frozen: they were committed before a model of a reported seed was
attacked. A sign is that of the association with *robustness*; 0 means that no direction is claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from experiments.fragility.predictors.ablation_drop import ablation_drop
from experiments.fragility.predictors.column_sine import column_sine
from experiments.fragility.predictors.curvature import curvature
from experiments.fragility.predictors.fisher_null_fraction import fisher_null_fraction
from experiments.fragility.predictors.fisher_overlap import fisher_overlap
from experiments.fragility.predictors.floor_radius import floor_radius
from experiments.fragility.predictors.geometric_fragility import geometric_fragility
from experiments.fragility.predictors.gradient_norm import gradient_norm
from experiments.fragility.predictors.inlp_rank import inlp_rank
from experiments.fragility.predictors.kl_depth import kl_depth
from experiments.fragility.predictors.kl_on_safe import kl_on_safe
from experiments.fragility.predictors.latent_vulnerability import latent_vulnerability
from experiments.fragility.predictors.loss_drop import loss_drop
from experiments.fragility.predictors.margin import margin
from experiments.fragility.predictors.margin_p5 import margin_p5
from experiments.fragility.predictors.mode_subspace_overlap import mode_subspace_overlap
from experiments.fragility.predictors.null_share import null_share
from experiments.fragility.predictors.null_share_last import null_share_last
from experiments.fragility.predictors.prefix_depth import prefix_depth
from experiments.fragility.predictors.quantisation_gap import quantisation_gap
from experiments.fragility.predictors.r50_random import r50_random
from experiments.fragility.predictors.r50_steepest import r50_steepest
from experiments.fragility.predictors.read_gain import read_gain
from experiments.fragility.predictors.refusal_rank import refusal_rank
from experiments.fragility.predictors.sensitivity import sensitivity
from experiments.fragility.predictors.stable_rank import stable_rank
from experiments.fragility.predictors.steps import steps
from experiments.fragility.predictors.stitching_lower import stitching_lower
from experiments.fragility.predictors.stitching_upper import stitching_upper
from experiments.fragility.predictors.tau_auroc import tau_auroc
from experiments.fragility.predictors.tau_gap import tau_gap
from experiments.fragility.predictors.tau_normalised import tau_normalised
from experiments.fragility.predictors.top_share import top_share
from experiments.fragility.predictors.visage import visage
from experiments.fragility.predictors.visage_released import visage_released
from experiments.fragility.predictors.weight_change import weight_change
from makebreak.model_zoo import Subject


class Predictor(NamedTuple):
    """One predictor with the direction that is claimed for it."""

    function: Callable[[Subject], float | None]
    """Value of a model; None where it is undefined."""
    sign: int
    """1 if a larger value is claimed to mean more robust safety, -1 if less robust, 0 for no claim."""


PREDICTORS: Mapping[str, Predictor] = {
    function.__name__: Predictor(function, sign)
    for function, sign in (
        (margin, 1),
        (weight_change, 0),
        (loss_drop, -1),
        (margin_p5, 1),
        (kl_on_safe, 0),
        (steps, 1),
        (r50_random, 1),
        (r50_steepest, 1),
        (visage, 1),
        (visage_released, 1),
        (floor_radius, 1),
        (curvature, -1),
        (gradient_norm, -1),
        (refusal_rank, 1),
        (inlp_rank, 1),
        (ablation_drop, -1),
        (tau_gap, 1),
        (tau_normalised, 1),
        (tau_auroc, 1),
        (null_share, 1),
        (null_share_last, 1),
        (column_sine, 1),
        (read_gain, 1),
        (fisher_null_fraction, 0),
        (stitching_lower, 0),
        (stitching_upper, 0),
        (fisher_overlap, -1),
        (mode_subspace_overlap, -1),
        (geometric_fragility, -1),
        (latent_vulnerability, -1),
        (kl_depth, 1),
        (prefix_depth, 1),
        (sensitivity, 0),
        (stable_rank, 0),
        (top_share, 0),
        (quantisation_gap, -1),
    )
}
"""Predictors by name. The first three are `makebreak.fragility.BASELINES`."""
SIGNS: Mapping[str, int] = {name: predictor.sign for name, predictor in PREDICTORS.items()}
"""Claimed signs by name."""
