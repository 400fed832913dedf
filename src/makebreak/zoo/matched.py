"""Matched comparison: columns of the zoo table where runs have an equal value of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from makebreak.configs import nearest
from makebreak.zoo.table import IDENTITY


def matched_comparison(
    zoo: pd.DataFrame, on: str, *, columns: Sequence[str], value: float | None = None
) -> pd.DataFrame:
    """Compares runs at an equal value of one column, such as `margin` or `kl_on_safe`.

    A run is a path that goes from its base (step 0) through the kept steps of all its training stages. The
    columns are interpolated linearly at the first point of the path where `on` has the value.

    Args:
        zoo: The zoo table.
        on: The column that is matched.
        columns: The columns that are compared.
        value: Value of `on` at which runs are compared; None for the greatest value that every run reaches.

    Returns:
        One row per run whose base has a value of `on`: `key` and IDENTITY; `matched_step`, the interpolated
        step, counted from the base; `on` and `columns`, interpolated; `matched_mechanism`, the training
        stages up to there; `reaches_value`. If a run does not reach the value, its columns are empty; if its
        base is beyond the value already, they are those of the base.

    Raises:
        ValueError: If a column is not in the table, if the model that a run starts from is not in the table,
            or if no run has a value of `on` at its base and at a later step.
    """
    for name in (on, *columns):
        if name not in zoo:
            raise ValueError(f"column {name!r} is not in the table; {nearest(name, list(zoo.columns))}")
    models = {str(key): rows for key, rows in zoo.sort_values("step").groupby("key")}
    paths = {}
    for key, rows in models.items():
        path = _path(models, key).dropna(subset=[on])
        if not pd.isna(rows.parent.iloc[0]) and len(path) > 1 and path.step.iloc[0] == 0:
            paths[key] = path
    if not paths:
        raise ValueError(f"no run of the table has {on!r} at its base and at a later step: measure it first")
    target = min(path[on].max() for path in paths.values()) if value is None else value
    rows = [
        models[key].iloc[0][["key", *IDENTITY]].to_dict() | _matched_point(path, on, columns, target)
        for key, path in paths.items()
    ]
    return pd.DataFrame(rows).sort_values([*IDENTITY, "key"], ignore_index=True)


def _matched_point(path: pd.DataFrame, on: str, columns: Sequence[str], target: float) -> dict[str, Any]:
    """The columns of a row that describe the point of a path where `on` is `target`."""
    names = ["matched_step", on, *columns]
    point = _first_point_at(path[["step", on, *columns]].to_numpy(dtype=np.float64), target)
    if point is None:
        return dict.fromkeys(names, np.nan) | {"matched_mechanism": None, "reaches_value": False}
    mechanism = path.mechanism[path.step >= point[0]].iloc[0]
    return dict(zip(names, point, strict=True)) | {"matched_mechanism": mechanism, "reaches_value": True}


def _path(models: dict[str, pd.DataFrame], key: str) -> pd.DataFrame:
    """Kept models of a run and of those that it started from, base first; steps count from the base."""
    rows = models[key]
    parent = rows.parent.iloc[0]
    if pd.isna(parent):
        return rows.tail(1).assign(step=0)
    if parent not in models:
        raise ValueError(
            f"{rows.mechanism.iloc[0]} ({key}) starts from {parent}, which is not in the table: keep both"
        )
    before = _path(models, parent)
    return pd.concat([before, rows.assign(step=rows.step + before.step.iloc[-1])])


def _first_point_at(path: np.ndarray, target: float) -> np.ndarray | None:
    """First row of a path, (points, values), whose second value is `target`; None if there is none."""
    reaches = path[:, 1] >= target
    if not reaches.any():
        return None
    after = int(reaches.argmax())
    low, high = path[after - 1], path[after]
    if after == 0 or high[1] == target:
        return high
    fraction = (target - low[1]) / (high[1] - low[1])
    point = low + fraction * (high - low)
    point[1] = target  # exactly, without the rounding of the interpolation
    return point
