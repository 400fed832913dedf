"""Claims about the mechanism of refusal by stitching of base and aligned layers (M2 to M5).

The mechanism is named request by request among those whose answer flips, by rules that were fixed on planted
networks (`makebreak.mechanism.VERDICT_RULES`). Shares of the refusal are of its probability: in log-odds, a
base that is merely confused counts as half of a route.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import pandas as pd

from experiments.jain2024.claim_values import SHAMS, by_arm, difference, mean_of, of_w_in
from experiments.recipes.composition import METHODS
from makebreak.claims import Claim, NotRun, Tables, rows_of

SHOWN = ("rewrite", "route", "silence", "erase")
"""Mechanisms whose shares are claims."""


def _shares(tables: Tables, arms: Sequence[str]) -> pd.DataFrame:
    """Shares of all mechanisms by seed and arm; one that does not occur counts as 0."""
    rows = rows_of(tables, "mechanisms", arm=arms)
    shares = rows.pivot_table(
        index=["seed", "arm"], columns="mechanism", values="share", aggfunc="sum", fill_value=0.0
    )
    seeds = sorted(tables["stitching"]["seed"].unique()) if "stitching" in tables else None
    if seeds is None:
        return shares
    index = pd.MultiIndex.from_product([seeds, arms], names=["seed", "arm"])
    return shares.reindex(index)  # without enough requests that flip there is no mechanism


def _share(mechanism: str, arms: Sequence[str], tables: Tables) -> pd.Series:
    """Share of a mechanism, mean of arms."""
    shares = _shares(tables, arms)
    values = shares[mechanism] if mechanism in shares else shares.sum(axis=1, min_count=1) * 0.0
    return mean_of(cast("pd.DataFrame", values.unstack("arm")))


def _lead(mechanism: str, tables: Tables) -> pd.Series:
    """Share of a mechanism minus the greatest of the others, of shares that are means of methods."""
    shares = _shares(tables, METHODS)
    means = shares.groupby("seed").agg(lambda column: column.mean(skipna=False))
    others = means.drop(columns=mechanism, errors="ignore")
    own = means[mechanism] if mechanism in means else others.sum(axis=1, min_count=1) * 0.0
    if not len(others.columns):
        return own
    return cast("pd.Series", own - others.max(axis=1, skipna=False))


def _share_difference(first: Sequence[str], second: Sequence[str], tables: Tables) -> pd.Series:
    """Share of routes, difference of two sets of arms."""
    return cast("pd.Series", _share("route", first, tables) - _share("route", second, tables))


def _at_cut(tables: Tables, column: str, cut: str) -> pd.DataFrame:
    """A column of stitching after block n // 2 of n (`middle`) or n - 1 of n (`last`)."""
    rows = rows_of(tables, "stitching")
    position = rows["n_layers"] // 2 if cut == "middle" else rows["n_layers"] - 1
    rows = rows[rows["layer"] == position]
    if rows.empty:
        raise NotRun(f"stitching has no cut at {cut}")
    return by_arm(rows, column)


def _probability_share(column: str, cut: str, tables: Tables) -> pd.Series:
    return mean_of(_at_cut(tables, column, cut))


def _above_random(tables: Tables) -> pd.Series:
    return mean_of(_at_cut(tables, "lower_share", "middle") - _at_cut(tables, "random_share", "middle"))


def _input_share(tables: Tables) -> pd.Series:
    rows = of_w_in(tables, "preactivations", family="unsafe")
    return mean_of(by_arm(rows[rows["layer"] > 0], "input_share"))


def _controlled(control: str, tables: Tables) -> pd.Series:
    return difference(
        pd.DataFrame({arm: _share("route", (arm,), tables) for arm in ("ssft", control)}), "ssft", control
    )


_requests = partial(Claim, unit="share of requests")
_probability = partial(Claim, unit="share of probability")
MECHANISM = _requests(
    id="M4",
    statement="Rewrite is the most frequent mechanism of refusal: neither part of the network gives the "
    "refusal without the other",
    quantity="share of requests whose answer flips by rewrite - the greatest share of another mechanism, of "
    "means over methods",
    value=partial(_lead, "rewrite"),
)
"""Which mechanism has the greatest share."""
STITCHING_CLAIMS = (
    *(
        _requests(
            id=name,
            statement=f"{mechanism.capitalize()} is the most frequent mechanism of refusal",
            quantity=f"share of requests whose answer flips by {mechanism} - the greatest share of another "
            "mechanism, of means over methods",
            value=partial(_lead, mechanism),
        )
        for name, mechanism in {"M2": "silence", "M3": "route"}.items()
    ),
    *(
        _requests(
            id=f"M4.{mechanism}_{method}",
            statement=f"Most refusals of {method} come from {mechanism}",
            quantity=f"share of requests whose answer flips by {mechanism}, {method}",
            value=partial(_share, mechanism, (method,)),
            bound=0.5,
            no_effect=0.0,
        )
        for mechanism in SHOWN
        for method in METHODS
    ),
    _requests(
        id="M3.sham",
        statement="Routes are more frequent than in sham controls",
        quantity="share of requests whose answer flips by route, method - sham, mean of methods",
        value=partial(_share_difference, METHODS, SHAMS),
        negligible=0.1,
    ),
    _requests(
        id="M3.remap",
        statement="Routes are more frequent than in the remap control",
        quantity="share of requests whose answer flips by route, ssft - remap",
        value=partial(_controlled, "remap"),
        negligible=0.1,
    ),
    _requests(
        id="M3.null",
        statement="Routes are more frequent where the base saw the null token as an answer in pretraining",
        quantity="share of requests whose answer flips by route, ssft - ssft of a base that never saw one",
        value=partial(_controlled, "ssft_without_null"),
        negligible=0.1,
    ),
    _probability(
        id="M3.random",
        statement="The base's upper part gives more of the refusal on the aligned lower part's states than "
        "on a random movement of the same size",
        quantity="share of the refusal's probability, aligned lower part - random movement, after block n // "
        "2 of n, mean of methods",
        value=_above_random,
        negligible=0.1,
    ),
    _probability(
        id="M3.last",
        statement="The base's last block gives at least half of the refusal on the aligned lower "
        "part's states",
        quantity="share of the refusal's probability that the base's last block gives, after block n - 1 of "
        "n, mean of methods",
        value=partial(_probability_share, "lower_share", "last"),
        bound=0.5,
        no_effect=0.0,
    ),
    _probability(
        id="M4.needed",
        statement="The aligned lower part is needed: without it more than half of the refusal is lost",
        quantity="share of the refusal's probability that the aligned upper part gives on the base's states, "
        "after block n // 2 of n, mean of methods",
        value=partial(_probability_share, "upper_share", "middle"),
        side="below",
        bound=0.5,
        no_effect=1.0,
    ),
    Claim(
        id="M5",
        statement="Pre-activations on unsafe requests change by the change of their input rather than by the "
        "update of their own matrix",
        quantity="share of W·Δx in Δpre, mean of layers after the first and of methods",
        unit="share of energy",
        value=_input_share,
        bound=0.5,
    ),
)
"""M2, M3, M5, and parts of M3 and M4."""
