"""Claims about activations: clusters of safe and unsafe requests (C2) and null shares (M1).

τ is the class-mean projection; its normalised gap is in units of the distance of the class means of clean
safe and unsafe requests, where 2 is perfect separation. Token-matched requests have the same tasks on text
of the other branch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import cast

import numpy as np
import pandas as pd

from experiments.jain2024.claim_values import (
    JAIN,
    SHAMS,
    at_equal,
    by_arm,
    difference,
    last_layer,
    mean_of,
    of_w_in,
)
from experiments.recipes.composition import METHODS
from makebreak.claims import Claim, NotRun, Tables, rows_of

MAX_EARLY_GAP = 0.3
"""Gap of τ up to which separation counts as small, read off a figure of the paper for larger networks."""
NEGLIGIBLE_RATIO = math.log(1.1)
"""Log ratio within which two shares are practically equal."""
_N_BLOCKS = 3
"""Blocks of which M1 is shown one by one."""


def _gaps(tables: Tables, column: str, layer: str, arms: Sequence[str]) -> pd.DataFrame:
    """Gap of τ on token-matched requests in the `first` or `last` layer, by seed and arm."""
    rows = rows_of(tables, "clusters", requests="token-matched")
    chosen = last_layer(rows) if layer == "last" else rows[rows["layer"] == 0]
    return by_arm(chosen, column, arms)


def _above_base(
    tables: Tables, column: str = "normalised", layer: str = "last", methods: Sequence[str] = METHODS
) -> pd.DataFrame:
    """The gap of methods minus that of the base."""
    gaps = _gaps(tables, column, layer, (*methods, "base"))
    return gaps[list(methods)].sub(gaps["base"], axis=0)


def _separation(methods: Sequence[str], tables: Tables) -> pd.Series:
    return mean_of(_above_base(tables, methods=methods))


def _separation_above_sham(tables: Tables) -> pd.Series:
    gaps = _gaps(tables, "normalised", "last", (*METHODS, *SHAMS))
    return mean_of(gaps[list(METHODS)]) - mean_of(gaps[list(SHAMS)])


def _separation_above_remap(tables: Tables) -> pd.Series:
    return difference(_gaps(tables, "normalised", "last", ("ssft", "remap")), "ssft", "remap")


def _growth_with_depth(tables: Tables) -> pd.Series:
    return mean_of(_above_base(tables)) - mean_of(_above_base(tables, layer="first"))


def _early_gap(tables: Tables) -> pd.Series:
    """Largest gap in the first half of the layers, mean of methods."""
    rows = rows_of(tables, "clusters", requests="standard", arm=METHODS)
    early = rows[rows["layer"] + 1 <= (rows["layer"].max() + 1) / 2]
    largest = early.groupby(["seed", "arm"])["gap"].max()
    return cast("pd.Series", largest.groupby("seed").mean())


def order_of_methods(values: pd.DataFrame) -> pd.Series:
    """Smaller value of DPO and unlearning minus that of SSFT, by seed; undefined where one is."""
    smaller = values[["dpo", "unlearning"]].min(axis=1, skipna=False)
    return cast("pd.Series", smaller - values["ssft"])


def _order(column: str, tables: Tables) -> pd.Series:
    return order_of_methods(_above_base(tables, column))


def _order_at_equal(on: str, tables: Tables) -> pd.Series:
    return order_of_methods(at_equal(tables, on, "token-matched.normalised"))


def _null_shares(tables: Tables, quantity: str = "pre") -> pd.DataFrame:
    return of_w_in(tables, "null_share", rule="exact", quantity=quantity, outcome="all")


def _log_ratios(
    rows: pd.DataFrame, arms: Sequence[str], unsafe: str = "unsafe", safe: str = "safe"
) -> pd.DataFrame:
    """Log ratio of the null shares of two families, by seed and arm."""
    shares = [by_arm(rows[rows["family"] == family], "share", arms) for family in (unsafe, safe)]
    ratio = shares[0] / shares[1]
    return cast("pd.DataFrame", np.log(ratio.where(ratio > 0)))


def _null_ratio_above_remap(methods: Sequence[str], tables: Tables) -> pd.Series:
    ratios = _log_ratios(last_layer(_null_shares(tables)), (*methods, "remap"))
    return cast("pd.Series", mean_of(ratios[list(methods)]) - ratios["remap"])


def _null_ratio_of_block(block: int, tables: Tables) -> pd.Series:
    rows = _null_shares(tables)
    rows = rows[rows["layer"] == block - 1]
    if rows.empty:
        raise NotRun(f"these networks have no block {block}")
    ratios = _log_ratios(rows, (*METHODS, "remap"))
    return cast("pd.Series", mean_of(ratios[list(METHODS)]) - ratios["remap"])


def _null_ratio(quantity: str, unsafe: str, safe: str, tables: Tables) -> pd.Series:
    return mean_of(_log_ratios(last_layer(_null_shares(tables, quantity)), METHODS, unsafe, safe))


def _null_ratio_above_sham(tables: Tables) -> pd.Series:
    rows = last_layer(_null_shares(tables))
    sham = mean_of(_log_ratios(rows, SHAMS, "sham_unsafe", "sham_safe"))
    return cast("pd.Series", mean_of(_log_ratios(rows, METHODS)) - sham)


def _null_ratio_at_equal_margin(tables: Tables) -> pd.Series:
    unsafe, safe = (at_equal(tables, "margin", f"null_share.{family}") for family in ("unsafe", "safe"))
    ratio = unsafe / safe
    return mean_of(cast("pd.DataFrame", np.log(ratio.where(ratio > 0))))


def _null_difference(tables: Tables) -> pd.Series:
    """Difference of the shares themselves, mean of layers and methods: the statistic of earlier versions."""
    rows = _null_shares(tables)
    unsafe, safe = (by_arm(rows[rows["family"] == family], "share") for family in ("unsafe", "safe"))
    return mean_of(unsafe - safe)


_distance = partial(Claim, unit="distance of means", negligible=0.1)
_ratio = partial(Claim, unit="log ratio", negligible=NEGLIGIBLE_RATIO)
_NAMES = {"ssft": "SSFT", "dpo": "DPO + NLL", "unlearning": "Unlearning"}
SEPARATION = _distance(
    id="C2",
    role="primary",
    source=JAIN,
    statement="Safety fine-tuning separates unsafe from safe activations",
    quantity="normalised gap of τ on token-matched requests, last layer, aligned - base, mean of methods",
    value=partial(_separation, METHODS),
    bound=0.2,
    no_effect=0.0,
)
"""The paper's claim about activations."""
NULL_RATIO = _ratio(
    id="M1",
    role="primary",
    statement="Alignment raises the null share of unsafe requests above that of safe ones, more than the "
    "remap control does",
    quantity="log ratio, unsafe over safe, of the share of W_in·a in the left null space of the base's W_in "
    "(exact rank), last layer, mean of methods - remap",
    value=partial(_null_ratio_above_remap, METHODS),
)
"""The paper's account of the mechanism, as a claim about activations."""
CLUSTER_CLAIMS = (
    *(
        _distance(
            id=f"C2.{method}",
            source=JAIN,
            statement=f"{name} separates unsafe from safe activations",
            quantity=f"normalised gap of τ on token-matched requests, last layer, {method} - base",
            value=partial(_separation, (method,)),
            bound=0.2,
            no_effect=0.0,
        )
        for method, name in _NAMES.items()
    ),
    _distance(
        id="C2.sham",
        statement="The separation exceeds that of sham controls",
        quantity="normalised gap of τ on token-matched requests, which a sham partition does not "
        "distinguish, last layer, aligned - sham, mean of methods",
        value=_separation_above_sham,
        bound=0.2,
        no_effect=0.0,
    ),
    _distance(
        id="C2.remap",
        statement="The separation exceeds that of the remap control",
        quantity="normalised gap of τ on token-matched requests, last layer, ssft - remap",
        value=_separation_above_remap,
        bound=0.2,
        no_effect=0.0,
    ),
    _distance(
        id="C2.depth",
        source=JAIN,
        statement="The separation grows with depth",
        quantity="normalised gap of τ, aligned - base, last layer - first layer, mean of methods",
        value=_growth_with_depth,
    ),
    Claim(
        id="C2.early",
        source=JAIN,
        statement="Separation is small in the first half of the layers",
        quantity="largest gap of τ, first half of the layers, standard requests, mean of methods",
        unit="activation",
        value=_early_gap,
        side="below",
        bound=MAX_EARLY_GAP,
    ),
    Claim(
        id="C2.order",
        source=JAIN,
        statement="DPO + NLL and unlearning separate more than SSFT",
        quantity="gap of τ, last layer, aligned - base: smaller one of dpo and unlearning, minus ssft",
        unit="activation",
        value=partial(_order, "gap"),
    ),
    _distance(
        id="C2.order_normalised",
        statement="DPO + NLL and unlearning separate more than SSFT, in units of the distance of the class "
        "means",
        quantity="normalised gap of τ, last layer, aligned - base: smaller one of dpo and unlearning, minus "
        "ssft",
        value=partial(_order, "normalised"),
    ),
    _distance(
        id="C2.order_margin",
        statement="DPO + NLL and unlearning separate more than SSFT at equal refusal margin",
        quantity="normalised gap of τ, last layer, at equal margin: smaller one of dpo and unlearning, minus "
        "ssft",
        value=partial(_order_at_equal, "margin"),
    ),
    _distance(
        id="C2.order_kl",
        statement="DPO + NLL and unlearning separate more than SSFT at equal KL to the base on safe requests",
        quantity="normalised gap of τ, last layer, where KL last falls to a common value within the last "
        "stages: smaller one of dpo and unlearning, minus ssft",
        value=partial(_order_at_equal, "kl_on_safe"),
    ),
)
"""Parts of C2."""
NULL_SHARE_CLAIMS = (
    *(
        _ratio(
            id=f"M1.{method}",
            statement=f"M1 for {name}",
            quantity=f"log ratio of null shares, unsafe over safe, last layer, {method} - remap",
            value=partial(_null_ratio_above_remap, (method,)),
        )
        for method, name in _NAMES.items()
    ),
    *(
        _ratio(
            id=f"M1.block_{block}",
            statement=f"M1 in the MLP of block {block}",
            quantity=f"log ratio of null shares, unsafe over safe, block {block}, mean of methods - remap",
            value=partial(_null_ratio_of_block, block),
        )
        for block in range(1, _N_BLOCKS + 1)
    ),
    _ratio(
        id="M1.raw",
        statement="The null share of unsafe requests exceeds that of safe ones",
        quantity="log ratio of null shares of W_in·a, unsafe over safe, last layer, mean of methods",
        value=partial(_null_ratio, "pre", "unsafe", "safe"),
    ),
    _ratio(
        id="M1.update",
        statement="The null share of what the update writes on unsafe requests exceeds that on safe ones",
        quantity="log ratio of null shares of ΔW·a, unsafe over safe, last layer, mean of methods",
        value=partial(_null_ratio, "delta", "unsafe", "safe"),
    ),
    _ratio(
        id="M1.matched",
        statement="M1.raw on token-matched requests",
        quantity="log ratio of null shares of W_in·a, context_unsafe over context_safe, last layer, mean of "
        "methods",
        value=partial(_null_ratio, "pre", "context_unsafe", "context_safe"),
    ),
    _ratio(
        id="M1.sham",
        statement="M1.raw exceeds the sham controls', which learn to refuse too: a control for the concept "
        "of safety, not for a mechanism of refusing",
        quantity="log ratio of null shares, last layer, method - sham (sham_unsafe over sham_safe)",
        value=_null_ratio_above_sham,
    ),
    _ratio(
        id="M1.margin",
        statement="The null share of unsafe requests exceeds that of safe ones at equal refusal margin",
        quantity="log ratio of null shares, means of layers, at equal margin, mean of methods",
        value=_null_ratio_at_equal_margin,
    ),
    Claim(
        id="M1.difference",
        statement="Null share of pre-activations, unsafe minus safe, in the units of earlier versions",
        quantity="difference of shares in the left null space, mean of layers and methods, exact rank",
        unit="share of energy",
        value=_null_difference,
        negligible=0.01,
    ),
)
"""Parts of M1."""
