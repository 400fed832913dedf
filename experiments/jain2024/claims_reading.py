"""Claims about what updates read (C4) and about sensitivity to the input (C5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal, cast

import numpy as np
import pandas as pd

from experiments.jain2024.claim_values import JAIN, SHAMS, by_arm, deeper_half, difference, mean_of, of_w_in
from experiments.recipes.composition import METHODS
from makebreak.claims import Claim, Tables, rows_of


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


def _mean_sensitivity(family: str, tables: Tables, methods: Sequence[str] = METHODS) -> pd.Series:
    return mean_of(_sensitivity(tables, family, methods))


def _log_sensitivity(methods: Sequence[str], tables: Tables) -> pd.Series:
    """Log ratio of the sensitivity of log probabilities, mean of methods."""
    ratio = _sensitivity(tables, "unsafe", methods, "log_p")
    return mean_of(cast("pd.DataFrame", np.log(ratio.where(ratio > 0))))


def _sensitivity_above_sham(tables: Tables) -> pd.Series:
    sham = mean_of(_sensitivity(tables, "sham_unsafe", SHAMS))
    return cast("pd.Series", mean_of(_sensitivity(tables, "unsafe")) - sham)


def _sensitivity_above_remap(tables: Tables) -> pd.Series:
    return difference(_sensitivity(tables, "unsafe", ("ssft", "remap")), "ssft", "remap")


_CHANGES: tuple[tuple[str, str, Literal["above", "below"]], ...] = (
    ("unsafe", "falls", "below"),
    ("safe", "rises", "above"),
)
"""How sensitivity is claimed to change, by family of requests."""
_ratio_claim = partial(Claim, unit="ratio")
_log_claim = partial(Claim, unit="log ratio", side="below", negligible=math.log(1.05))


READING_PRIMARY = (
    _ratio_claim(
        id="C4",
        role="primary",
        source=JAIN,
        statement="The update of W_in reads unsafe requests more than safe ones",
        quantity="read gain ‖ΔW a‖ / ‖a‖, mean of the deeper half of the layers (the middle one included), "
        "on unsafe over that on safe requests, mean of methods",
        value=partial(_mean_gain_ratio, ("unsafe", "safe"), "gain"),
        bound=1.0,
        negligible=0.05,
    ),
    Claim(
        id="C5",
        role="primary",
        source=JAIN,
        statement="Sensitivity falls on unsafe requests and rises on safe ones",
        parts=("C5.unsafe", "C5.safe"),
    ),
)
"""Primary claims about reading and sensitivity."""
READING_CLAIMS = (
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
        quantity="median over unsafe requests of the ratio of ‖∂ max logit / ∂ e‖, aligned over base, mean "
        "of methods",
        value=partial(_mean_sensitivity, "unsafe"),
        side="below",
        bound=1.0,
        negligible=0.05,
    ),
    _ratio_claim(
        id="C5.safe",
        source=JAIN,
        statement="Sensitivity rises on safe requests",
        quantity="median over safe requests of the ratio of ‖∂ max logit / ∂ e‖, aligned over base, mean of "
        "methods",
        value=partial(_mean_sensitivity, "safe"),
        bound=1.0,
        negligible=0.05,
    ),
    *(
        _ratio_claim(
            id=f"C5.{family}_{method}",
            source=JAIN,
            statement=f"Sensitivity {verb} on {family} requests ({method})",
            quantity=f"median over {family} requests of the ratio of ‖∂ max logit / ∂ e‖, {method} over base",
            value=partial(_mean_sensitivity, family, methods=(method,)),
            side=side,
            bound=1.0,
            negligible=0.05,
        )
        for family, verb, side in _CHANGES
        for method in METHODS
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
)
"""Descriptive claims about reading and sensitivity."""
