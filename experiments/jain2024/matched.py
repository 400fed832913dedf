"""Matched comparison of the methods: at equal refusal margin, at equal KL and at the end."""

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments.recipes.composition import METHODS
from makebreak.claims import NotRun, Tables, rows_of
from makebreak.model_zoo import matched_comparison

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


def matched_table(tables: Tables) -> pd.DataFrame:
    """The table `matched`.

    Args:
        tables: Tables of the study.

    Returns:
        Result of `matched_rows`.

    Raises:
        NotRun: If a method is missing.
    """
    zoo = rows_of(tables, "zoo")
    missing = [arm for arm in METHODS if arm not in set(zoo["arm"])]
    if missing:
        raise NotRun(f"this preset has no models of {', '.join(missing)}")
    return matched_rows(zoo)


def matched_rows(zoo: pd.DataFrame) -> pd.DataFrame:
    """Compares methods at the end of training, at equal refusal margin and at equal KL.

    The margin is the greatest that every run of every method reaches, where it is first reached. KL to the
    base peaks early and falls; methods are compared, seed by seed, where it last falls to a common value, all
    of them within their last stage (DPO's own, not its SSFT warm start). Other columns are interpolated
    between kept steps.

    Args:
        zoo: The study's table of models.

    Returns:
        One row per seed, method and `on` (`end`, or the matched column), with the columns seed, arm, on, `at`
        (steps since the base), `matched_mechanism` (training stages up to there) and those of `COLUMNS` that
        the table has. Values are empty where the column is not known before and after the matched point, or
        at no step between base and end of any run, and at equal KL for all methods of a seed if their last
        stages have no value in common.
    """
    zoo = zoo.reset_index(drop=True)
    runs = zoo[zoo["arm"].isin(METHODS)]
    final = runs.sort_values("at").groupby(["seed", "arm"]).tail(1)
    columns = [name for name in COLUMNS if name in zoo]
    between = runs.drop(index=final.index)
    # a line from base to end says nothing about what lies between them
    unknown = [name for name in columns if between[name].isna().all()]
    tables = [final[["seed", "arm", "at", "mechanism", *columns]].assign(on="end")]
    with_bases = pd.concat([zoo[zoo["arm"] == "base"], runs])
    common_margin = float(runs.groupby(["seed", "arm"])["margin"].max().min())
    comparisons = {"margin": [_compare(with_bases, "margin", final, common_margin)]}
    comparisons["kl_on_safe"] = [
        _compare(rows, "kl_on_safe", final, None) for _, rows in with_bases.groupby("seed")
    ]
    for on, parts in comparisons.items():
        rows = pd.concat(parts).merge(final[["key", "arm"]], on="key")
        rows[unknown] = np.nan
        tables.append(rows[["seed", "arm", "at", "mechanism", *columns]].assign(on=on))
    order = ["seed", "arm", "on", "at", "mechanism", *columns]
    table = pd.concat(tables)[order].rename(columns={"mechanism": "matched_mechanism"})
    return table.sort_values(["on", "seed", "arm"], ignore_index=True)


def _compare(zoo: pd.DataFrame, on: str, final: pd.DataFrame, value: float | None) -> pd.DataFrame:
    """Matched comparison of the final models; at equal KL, after its peak."""
    rows = matched_comparison(
        zoo,
        on,
        columns=[name for name in COLUMNS if name in zoo and name != on],
        value=value,
        branch="first" if on == "margin" else "descending",
        keys=set(final["key"]),
    )
    rows = rows.drop(columns="mechanism")  # that of the whole run
    return rows.rename(columns={"matched_step": "at", "matched_mechanism": "mechanism"})
