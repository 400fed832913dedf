"""Reductions of the study's tables to one value per pretraining seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pandas as pd

from experiments.recipes.composition import METHODS
from makebreak.claims import NotRun, Tables, rows_of

JAIN = "Jain et al. 2024"
"""The paper that the study reproduces."""
SHAMS = tuple(f"sham_{method}" for method in METHODS)
"""Sham controls, in the order of the methods."""


def by_arm(rows: pd.DataFrame, column: str, arms: Sequence[str] = METHODS) -> pd.DataFrame:
    """Means of a column by seed and arm.

    Args:
        rows: Rows of a table of the study.
        column: Column of the mean.
        arms: Arms that are wanted.

    Returns:
        One row per seed, one column per arm, in the order of `arms`.

    Raises:
        NotRun: If an arm is missing.
    """
    means = cast("pd.DataFrame", rows.groupby(["seed", "arm"])[column].mean().unstack("arm"))
    missing = [arm for arm in arms if arm not in means]
    if missing:
        raise NotRun(f"this preset has no {column} of {', '.join(missing)}")
    return means[list(arms)].astype(float)


def mean_of(values: pd.DataFrame) -> pd.Series:
    """Mean over arms by seed, which are equally weighted; undefined where one of them is."""
    return cast("pd.Series", values.mean(axis=1, skipna=False))


def difference(values: pd.DataFrame, first: str, second: str) -> pd.Series:
    """Difference of two arms by seed."""
    return cast("pd.Series", values[first] - values[second])


def last_layer(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the deepest layer."""
    return rows[rows["layer"] == rows["layer"].max()]


def deeper_half(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the deeper half of the layers."""
    return rows[rows["layer"] + 1 > (rows["layer"].max() + 1) / 2]


def at_equal(tables: Tables, on: str, column: str) -> pd.DataFrame:
    """A column of the matched comparison by seed and method, where the methods are equal in another column.

    Args:
        tables: Tables of the study.
        on: Column in which they are equal, or `end`.
        column: The column.

    Returns:
        One row per seed, one column per method.

    Raises:
        NotRun: If it was not measured.
    """
    rows = rows_of(tables, "matched", on=on)
    if column not in rows:
        raise NotRun(f"this preset has no {column} at equal {on}")
    return by_arm(rows, column)


def of_w_in(tables: Tables, table: str, **where: Any) -> pd.DataFrame:
    """Rows about W_in, which in a gated MLP is the up projection."""
    return rows_of(tables, table, matrix="mlp.W_in", **where)
