"""Matched comparison of the methods: at equal refusal margin, at equal KL and at the end."""

from __future__ import annotations

from typing import Any

import pandas as pd

from experiments.jain2024.claim_values import Values, mean_of_methods, values_by_claim
from experiments.jain2024.claims_clusters import order_of_methods
from experiments.recipes.composition import METHODS
from makebreak.zoo import matched_comparison

COLUMNS = (
    *("margin", "kl_on_safe", "weight_change", "unsafe.refuse", "safe.comply", "token-matched.normalised"),
    *(
        "null_share.unsafe",
        "null_share.safe",
        "stitching.lower_margin_share",
        "stitching.fisher_null_fraction",
    ),
)
"""Columns of the table of models that are compared."""
MATCHED_COLUMNS = ("margin", "kl_on_safe")
"""Columns at an equal value of which methods are compared."""


def matched_rows(zoo: pd.DataFrame) -> pd.DataFrame:
    """Compares methods at the end of training and where they first have the same margin or KL.

    The common value is the greatest that every run of every method reaches; other columns are interpolated
    between checkpoints. The KL is not monotone in time, so that comparisons at equal KL are withdrawn
    (docs/errata.md, W4).

    Args:
        zoo: The study's table of models.

    Returns:
        One row per seed, method and `on` (`end`, or the matched column), with the columns seed, arm, on, `at`
        (steps since the base) and those of `COLUMNS` that the table has. A value is empty if it is undefined
        for the base and the matched point lies before the first checkpoint.
    """
    runs = zoo[zoo["arm"].isin(METHODS)]
    final = runs.sort_values("at").groupby(["seed", "arm"]).tail(1)
    columns = [name for name in COLUMNS if name in zoo]
    tables = [final[["seed", "arm", "at", *columns]].assign(on="end")]
    with_bases = pd.concat([zoo[zoo["arm"] == "base"], runs])
    for on in MATCHED_COLUMNS:
        common_value = float(runs.groupby(["seed", "arm"])[on].max().min())
        others = [name for name in columns if name != on]
        comparison = matched_comparison(with_bases, on, columns=others, value=common_value)
        rows = comparison.merge(final[["key", "arm"]], on="key").rename(columns={"matched_step": "at"})
        tables.append(rows[["seed", "arm", "at", *columns]].assign(on=on))
    order = ["seed", "arm", "on", "at", *columns]
    return pd.concat(tables)[order].sort_values(["on", "seed", "arm"], ignore_index=True)


def matched_values(table: pd.DataFrame) -> Values:
    """Values of the claims about matched methods: C2.order_margin, C2.order_kl, M1.margin and M3.margin.

    Args:
        table: Result of `matched_rows`.

    Returns:
        One value per seed for each claim.
    """
    rows = []
    for seed in sorted(table["seed"].unique()):
        of_seed = table[table["seed"] == seed]
        at_margin = of_seed[of_seed["on"] == "margin"].set_index("arm").to_dict("index")
        at_kl = of_seed[of_seed["on"] == "kl_on_safe"].set_index("arm").to_dict("index")
        null_shares = {
            method: at_margin[method]["null_share.unsafe"] - at_margin[method]["null_share.safe"]
            for method in METHODS
        }
        stitching_shares = {
            method: at_margin[method].get("stitching.lower_margin_share", float("nan")) for method in METHODS
        }
        rows.append(
            {
                "C2.order_margin": order_of_methods(_cluster_gaps(at_margin)),
                "M1.margin": mean_of_methods(null_shares),
                "M3.margin": mean_of_methods(stitching_shares),
                "C2.order_kl": order_of_methods(_cluster_gaps(at_kl)),
            }
        )
    return values_by_claim(rows)


def _cluster_gaps(rows: dict[Any, dict[Any, Any]]) -> dict[str, float]:
    return {method: rows[method]["token-matched.normalised"] for method in METHODS}
