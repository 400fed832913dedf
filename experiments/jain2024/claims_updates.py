"""Claims about the update of the weights (C3 to C5, C8)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import cast

import numpy as np
import pandas as pd

from experiments.jain2024.claim_values import JAIN, SHAMS, by_arm, deeper_half, difference, mean_of, of_w_in
from experiments.recipes.composition import METHODS
from makebreak.claims import Claim, Tables, rows_of

MAX_COMPLIANCE_LOSS = 0.02
"""Loss of compliance on safe requests that C8 allows, as a rate."""
MIN_WEAK_COMPLIANCE = 0.95
"""Compliance on safe requests at α = 1 of a model whose update is extrapolated."""
_WEAK = "ssft_weak"
_BASE_SHARE = 0.9
"""Share of the base's own output energy that C3.weighted looks at."""
_DECAYS = ("0.01", "0.1", "1")


def _sine(tables: Tables, against: str = "update", arms: Sequence[str] = METHODS) -> pd.DataFrame:
    return by_arm(of_w_in(tables, "updates", against=against), "sine", arms)


def _sine_above(against: str, tables: Tables) -> pd.Series:
    """Sine of the update minus that of a reference, mean of methods."""
    return mean_of(_sine(tables) - _sine(tables, against))


def _sine_above_sham(tables: Tables) -> pd.Series:
    sines = _sine(tables, arms=(*METHODS, *SHAMS))
    return cast("pd.Series", mean_of(sines[list(METHODS)]) - mean_of(sines[list(SHAMS)]))


def _sine_difference(first: str, second: str, tables: Tables) -> pd.Series:
    return difference(_sine(tables, arms=(first, second)), first, second)


def _energy_above_chance(tables: Tables) -> pd.Series:
    rows = of_w_in(tables, "updates", against="update")
    return mean_of(by_arm(rows, "null") - by_arm(rows, "chance"))


def _weighted_energy(tables: Tables) -> pd.Series:
    rows = of_w_in(tables, "weighted_energy", family="unsafe", base_share=_BASE_SHARE)
    return mean_of(by_arm(rows, "energy") - by_arm(rows, "chance"))


def _carried(tables: Tables, matrices: str, space: str, arms: Sequence[str] = METHODS) -> pd.DataFrame:
    """Share of what the update is worth in margin that a part of it carries."""
    rows = rows_of(tables, "update_projection", matrices=matrices, rule="exact", space=space)
    return by_arm(rows, "share_of_margin", arms)


def _carried_above_random(matrices: str, space: str, tables: Tables) -> pd.Series:
    random = _carried(tables, matrices, f"random as {space}")
    return mean_of(_carried(tables, matrices, space) - random)


def _carried_by_null_part(tables: Tables) -> pd.Series:
    return mean_of(_carried(tables, "mlp.W_in", "left null"))


def _gain_ratio(
    tables: Tables, families: tuple[str, str], arms: Sequence[str], column: str = "gain"
) -> pd.DataFrame:
    """Read gain on the first family over that on the second, deeper half of the layers."""
    rows = deeper_half(of_w_in(tables, "read_gain"))
    first, second = (by_arm(rows[rows["family"] == family], column, arms) for family in families)
    return first / second


def _mean_gain_ratio(families: tuple[str, str], column: str, tables: Tables) -> pd.Series:
    return mean_of(_gain_ratio(tables, families, METHODS, column))


def _gain_ratio_above_sham(tables: Tables) -> pd.Series:
    sham = mean_of(_gain_ratio(tables, ("sham_unsafe", "sham_safe"), SHAMS))
    return cast("pd.Series", mean_of(_gain_ratio(tables, ("unsafe", "safe"), METHODS)) - sham)


def _gain_ratio_above_remap(tables: Tables) -> pd.Series:
    return difference(_gain_ratio(tables, ("unsafe", "safe"), ("ssft", "remap")), "ssft", "remap")


def _sensitivity(
    tables: Tables, family: str, arms: Sequence[str] = METHODS, output: str = "max_logit"
) -> pd.DataFrame:
    """Median sensitivity, aligned over base."""
    return by_arm(rows_of(tables, "sensitivity", family=family, output=output), "ratio_median", arms)


def _mean_sensitivity(family: str, tables: Tables) -> pd.Series:
    return mean_of(_sensitivity(tables, family))


def _log_sensitivity(methods: Sequence[str], tables: Tables) -> pd.Series:
    """Log ratio of the sensitivity of log probabilities, mean of methods."""
    ratio = _sensitivity(tables, "unsafe", methods, "log_p")
    return mean_of(cast("pd.DataFrame", np.log(ratio.where(ratio > 0))))


def _sensitivity_above_sham(tables: Tables) -> pd.Series:
    sham = mean_of(_sensitivity(tables, "sham_unsafe", SHAMS))
    return cast("pd.Series", mean_of(_sensitivity(tables, "unsafe")) - sham)


def _sensitivity_above_remap(tables: Tables) -> pd.Series:
    return difference(_sensitivity(tables, "unsafe", ("ssft", "remap")), "ssft", "remap")


def _extrapolated(tables: Tables, arm: str, family: str, alpha: float, outcome: str) -> pd.Series:
    rows = rows_of(tables, "extrapolation", arm=arm, family=family, alpha=alpha)
    return by_arm(rows, outcome, (arm,))[arm]


def _refusal_gain(arm: str, tables: Tables) -> pd.Series:
    after, before = (_extrapolated(tables, arm, "unsafe", alpha, "refuse") for alpha in (1.5, 1.0))
    return after - before


def _compliance_loss(arm: str, tables: Tables) -> pd.Series:
    before, after = (_extrapolated(tables, arm, "safe", alpha, "comply") for alpha in (1.0, 1.5))
    return before - after


def _compliance_of_weak_model(tables: Tables) -> pd.Series:
    return _extrapolated(tables, _WEAK, "safe", 1.0, "comply")


_sine_claim = partial(Claim, unit="sine", negligible=0.02)
_part_claim = partial(Claim, unit="share of margin")
_ratio_claim = partial(Claim, unit="ratio")
_log_claim = partial(Claim, unit="log ratio", side="below", negligible=math.log(1.05))
UPDATE_PRIMARY = (
    _sine_claim(
        id="C3",
        role="primary",
        source=JAIN,
        statement="Outputs of the update of W_in lie in the left null space of the base's W_in",
        quantity="sine of ΔW's leading outputs to W's column space, update - random, mean of layers and "
        "methods",
        value=partial(_sine_above, "haar"),
    ),
    _part_claim(
        id="C3.causal",
        role="primary",
        statement="The part of the update of W_in in the left null space carries more of the refusal than a "
        "random part of the same dimension",
        quantity="share of what the update of W_in is worth in margin, with only its projection on the left "
        "null space (exact rank) - the same for random spaces, mean of methods",
        value=partial(_carried_above_random, "mlp.W_in", "left null"),
    ),
    _ratio_claim(
        id="C4",
        role="primary",
        source=JAIN,
        statement="The update of W_in reads unsafe requests more than safe ones",
        quantity="read gain ‖ΔW a‖ / ‖a‖, unsafe over safe, deeper half of the layers, mean of methods",
        value=partial(_mean_gain_ratio, ("unsafe", "safe"), "gain"),
        bound=1.0,
    ),
    Claim(
        id="C5",
        role="primary",
        source=JAIN,
        statement="Sensitivity falls on unsafe requests and rises on safe ones",
        parts=("C5.unsafe", "C5.safe"),
    ),
)
"""Primary claims C3 to C5."""
UPDATE_CLAIMS = (
    *(
        _sine_claim(
            id=f"C3.{control}",
            statement=f"The update of W_in lies in the left null space more than {of}",
            quantity=f"sine, ssft - {control}",
            value=partial(_sine_difference, "ssft", control),
        )
        for control, of in {
            "remap": "the remap control's",
            "new_operator": "one that teaches a new operator",
            "continued": "that of continued pretraining",
        }.items()
    ),
    _sine_claim(
        id="C3.sham",
        statement="The update of W_in lies in the left null space more than a sham control's",
        quantity="sine, method - its sham, mean of methods",
        value=_sine_above_sham,
    ),
    *(
        _sine_claim(
            id=f"C3.decay_{decay}",
            statement=f"Weight decay of {decay} moves the update of W_in into the left null space",
            quantity=f"sine, ssft with weight decay {decay} - ssft without weight decay",
            value=partial(_sine_difference, f"ssft_decay_{decay}", "ssft_no_decay"),
        )
        for decay in _DECAYS
    ),
    _sine_claim(
        id="C3.other_seed",
        statement="The update of W_in lies in the left null space of its own base's W_in more than of "
        "another pretraining seed's",
        quantity="sine, own base - other base, mean of methods",
        value=partial(_sine_above, "other_seed"),
    ),
    Claim(
        id="C3.energy",
        statement="The update of W_in has more energy in the exact left null space than chance gives",
        quantity="share of ΔW's energy in the left null space - chance, exact rank, mean of layers "
        "and methods",
        unit="share of energy",
        value=_energy_above_chance,
        negligible=0.02,
    ),
    Claim(
        id="C3.weighted",
        statement="On unsafe requests the update writes less than chance where the base writes most",
        quantity="share of the energy of ΔW·a in the base's outputs that hold 90 % of its own output energy "
        "- chance, unsafe requests, mean of layers and methods",
        unit="share of energy",
        value=_weighted_energy,
        side="below",
        negligible=0.02,
    ),
    _part_claim(
        id="C3.causal_share",
        statement="The part of the update of W_in in the left null space carries most of the refusal",
        quantity="share of what the update of W_in is worth in margin, with only its projection on the left "
        "null space (exact rank), mean of methods",
        value=_carried_by_null_part,
        bound=0.5,
        no_effect=0.0,
    ),
    _part_claim(
        id="C3.causal_column",
        statement="The part of the update of W_in in the column space carries more of the refusal than a "
        "random part of the same dimension",
        quantity="the same as C3.causal, of the column space of W_in",
        value=partial(_carried_above_random, "mlp.W_in", "column"),
    ),
    _part_claim(
        id="C3.causal_all",
        statement="The part of the updates of all matrices in their left null spaces carries more of the "
        "refusal than random parts of the same dimensions",
        quantity="the same as C3.causal, of every matrix of every block",
        value=partial(_carried_above_random, "all", "left null"),
    ),
    _ratio_claim(
        id="C4.matched",
        statement="The update of W_in reads unsafe requests more than safe ones that are token-matched",
        quantity="read gain ‖ΔW a‖ / ‖a‖, context_unsafe over context_safe, deeper half of the layers, "
        "mean of methods",
        value=partial(_mean_gain_ratio, ("context_unsafe", "context_safe"), "gain"),
        bound=1.0,
    ),
    *(
        _ratio_claim(
            id=f"C4.direction_{n}",
            source=JAIN if n == 1 else "ours",
            statement=f"The update reads unsafe requests more than safe ones by its leading {directions}",
            quantity=f"read gain of the leading {directions} of ΔW, unsafe over safe, deeper half of the "
            "layers, mean of methods",
            value=partial(_mean_gain_ratio, ("unsafe", "safe"), f"gain_{n}"),
            bound=1.0,
        )
        for n, directions in {
            1: "right singular direction",
            2: "two right singular directions",
            8: "eight right singular directions",
        }.items()
    ),
    _ratio_claim(
        id="C4.sham",
        statement="The ratio of read gains exceeds that of sham controls",
        quantity="ratio of read gains, method - sham (sham_unsafe over sham_safe), mean of methods",
        value=_gain_ratio_above_sham,
        negligible=0.05,
    ),
    _ratio_claim(
        id="C4.remap",
        statement="The ratio of read gains exceeds that of the remap control",
        quantity="ratio of read gains, ssft - remap",
        value=_gain_ratio_above_remap,
        negligible=0.05,
    ),
    _ratio_claim(
        id="C5.unsafe",
        source=JAIN,
        statement="Sensitivity falls on unsafe requests",
        quantity="median ‖∂ max logit / ∂ e‖, aligned over base, unsafe requests, mean of methods",
        value=partial(_mean_sensitivity, "unsafe"),
        side="below",
        bound=1.0,
        negligible=0.05,
    ),
    _ratio_claim(
        id="C5.safe",
        source=JAIN,
        statement="Sensitivity rises on safe requests",
        quantity="median ‖∂ max logit / ∂ e‖, aligned over base, safe requests, mean of methods",
        value=partial(_mean_sensitivity, "safe"),
        bound=1.0,
        negligible=0.05,
    ),
    _log_claim(
        id="C5.log_p",
        statement="Sensitivity of the log probability falls on unsafe requests, whatever the scale of logits",
        quantity="log of median ‖∂ log p / ∂ e‖, aligned over base, mean of methods",
        value=partial(_log_sensitivity, METHODS),
    ),
    *(
        _log_claim(
            id=f"C5.log_p_{method}",
            statement=f"Sensitivity of the log probability falls on unsafe requests ({method})",
            quantity=f"log of median ‖∂ log p / ∂ e‖, {method} over base",
            value=partial(_log_sensitivity, (method,)),
        )
        for method in METHODS
    ),
    _ratio_claim(
        id="C5.sham",
        statement="Sensitivity falls more on unsafe requests than a sham control's on its own "
        "refused requests",
        quantity="C5.unsafe - the same of the sham control",
        value=_sensitivity_above_sham,
        side="below",
        negligible=0.05,
    ),
    _ratio_claim(
        id="C5.remap",
        statement="Sensitivity falls more on unsafe requests than that of the remap control",
        quantity="C5.unsafe, ssft - remap",
        value=_sensitivity_above_remap,
        side="below",
        negligible=0.05,
    ),
    Claim(
        id="C8",
        source=JAIN,
        statement="Extrapolating ΔW makes weakly tuned SSFT refuse more at almost no loss of compliance",
        parts=("C8.gain", "C8.cost"),
    ),
    *(
        Claim(
            id=f"C8.gain{suffix}",
            source=JAIN,
            statement=f"Extrapolating ΔW makes {name} refuse more",
            quantity="refusal rate on unsafe requests, α 1.5 - α 1",
            unit="rate",
            value=partial(_refusal_gain, arm),
            negligible=0.02,
        )
        for suffix, name, arm in (
            ("", "weakly tuned SSFT", _WEAK),
            ("_small", "SSFT at a tenth of the rate", "ssft_small"),
        )
    ),
    *(
        Claim(
            id=f"C8.cost{suffix}",
            source=JAIN,
            statement=f"Extrapolating ΔW costs {name} almost no compliance",
            quantity="compliance rate on safe requests, α 1 - α 1.5",
            unit="rate",
            value=partial(_compliance_loss, arm),
            side="below",
            bound=MAX_COMPLIANCE_LOSS,
        )
        for suffix, name, arm in (
            ("", "weakly tuned SSFT", _WEAK),
            ("_small", "SSFT at a tenth of the rate", "ssft_small"),
        )
    ),
)
"""Parts of C3 to C5, and C8."""
EXTRAPOLATION_CHECK = Claim(
    id="C8.weak",
    role="check",
    source="settings",
    statement="The weakly tuned model answers safe requests before its update is extrapolated",
    quantity="compliance rate on safe requests at α 1",
    unit="rate",
    value=_compliance_of_weak_model,
    bound=MIN_WEAK_COMPLIANCE,
)
"""Precondition of C8."""
