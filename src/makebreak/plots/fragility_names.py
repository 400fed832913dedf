"""Words for predictors and outcomes of fragile safety, in figures and on pages."""

from __future__ import annotations

import pandas as pd

from makebreak.plots.style import arm_name, plain_text

_PREDICTORS = {
    "margin": "refusal margin",
    "weight_change": "norm of ΔW",
    "loss_drop": "one-step loss drop",
    "margin_p5": "margin, 5th percentile",
    "kl_on_safe": "KL on safe requests",
    "steps": "steps of alignment",
    "r50_random": "r50, random",
    "r50_steepest": "r50, steepest",
    "visage": "VISAGE",
    "visage_released": "VISAGE, released code",
    "inlp_rank": "INLP rank",
    "tau_gap": "τ gap",
    "tau_normalised": "τ gap, normalised",
    "tau_auroc": "τ gap, AUROC",
    "null_share_last": "null share, last layer",
    "column_sine": "sine to column space",
    "fisher_null_fraction": "Fisher null fraction",
    "fisher_overlap": "Fisher overlap",
    "stitching_lower": "stitching, lower half",
    "stitching_upper": "stitching, upper half",
    "kl_depth": "KL depth",
    "prefix_depth": "forced-prefix depth",
    "stable_rank": "stable rank of ΔW",
    "top_share": "top-1 share of ΔW",
}
_OUTCOMES = {
    "steps_to_half": "steps to 50 % compliance",
    "compliance": "compliance",
    "success": "success",
}
_ATTACKS = {
    "harmful": "harmful data",
    "benign": "benign data",
    "restructured": "restructured data",
    "gcg": "GCG",
    "held_out": "held-out families",
    "int4": "INT4",
    "pruning_10": "10 % pruning",
    "pruning_30": "30 % pruning",
}
_MECHANISMS = {
    "lora_rank_1": "LoRA, rank 1",
    "lora_rank_4": "LoRA, rank 4",
    "ssft_null": "SSFT, null space",
    "ssft_column": "SSFT, column space",
    "ssft_random": "SSFT, random subspace",
    "ssft_lower": "SSFT, lower half",
    "ssft_upper": "SSFT, upper half",
}


def predictor_name(predictor: str) -> str:
    """Name of a predictor in words; an unknown one is shown with spaces for underscores."""
    return _PREDICTORS.get(predictor, _spaces(predictor))


def outcome_name(outcome: str) -> str:
    """Name of an outcome in words, such as `harmful data, steps to 50 % compliance`."""
    attack, _, value = outcome.rpartition(".")
    names = [_ATTACKS.get(attack, _spaces(attack)), _OUTCOMES.get(value, _spaces(value))]
    return ", ".join(filter(None, names))


def mechanism_name(mechanism: str) -> str:
    """Name of a mechanism of safety in words."""
    return _MECHANISMS.get(mechanism) or _spaces(arm_name(mechanism))


def predictor_set_name(predictors: str) -> str:
    """Name of a set of predictors: the baselines, all of them, or one."""
    return {"baselines": "the three baselines"}.get(predictors, predictor_name(predictors))


def qualified_models(zoo: pd.DataFrame) -> pd.DataFrame:
    """The models that the tables are about: those that qualify and are no controls.

    Args:
        zoo: One row per model, with the columns qualifies and is_control.

    Returns:
        Their rows.
    """
    return zoo[zoo.qualifies.eq(True) & ~zoo.is_control.eq(True)]  # what is undefined does not qualify


def _spaces(name: str) -> str:
    return plain_text(name).replace("_", " ")
