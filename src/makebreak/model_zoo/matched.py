"""Matched comparison: columns of the zoo table where runs have an equal value of one of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from makebreak.configs import nearest
from makebreak.model_zoo.crossings import (
    common_descending_value,
    descending_crossing,
    first_crossing,
)
from makebreak.model_zoo.table import IDENTITY


def matched_comparison(
    zoo: pd.DataFrame,
    on: str,
    *,
    columns: Sequence[str],
    value: float | None = None,
    branch: Literal["first", "descending"] = "first",
    keys: Collection[str] | None = None,
) -> pd.DataFrame:
    """Compares runs at an equal value of one column, such as `margin` or `kl_on_safe`.

    A run is a path that goes from its base (step 0) through the kept steps of all its training stages. All
    columns are interpolated linearly in the step, each between the kept steps at which it is known.

    A column that rises all along has one point with the value, the first one. KL to the base rises within the
    first steps and falls after them; on the branch `descending`, the point is the last one at which the
    column crosses the value, and it counts only if the column falls there, within the run's last stage.

    Args:
        zoo: The zoo table.
        on: The column that is matched.
        columns: The columns that are compared.
        value: Value of `on` at which runs are compared. None for the greatest value that every run reaches;
            on the branch `descending`, for the geometric mean of the values that every run has there.
        branch: The point of a path: where `on` first reaches the value, or where it last falls to it.
        keys: Keys of the runs that are compared; None for all runs of the table.

    Returns:
        One row per run whose base has a value of `on`: `key` and IDENTITY; `matched_step`, the interpolated
        step, counted from the base; `on` and `columns`, interpolated; `matched_mechanism`, the training
        stages up to there; `reaches_value`. If a run does not reach the value, its columns are empty; if its
        base is beyond the value already, they are those of the base on the branch `first`.

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
        path = _path(models, key)
        known = path.dropna(subset=[on])
        is_run = not pd.isna(rows.parent.iloc[0]) and (keys is None or key in keys)
        if is_run and len(known) > 1 and known.step.iloc[0] == 0:
            paths[key] = path
    if not paths:
        raise ValueError(f"no run of the table has {on!r} at its base and at a later step: measure it first")
    steps = {key: _matched_steps(path, on) for key, path in paths.items()}
    if branch == "first":
        target = min(values.max() for _, values, _ in steps.values()) if value is None else value
        points = {key: first_crossing(values, target) for key, (_, values, _) in steps.items()}
    else:
        curves = {key: (values, start) for key, (_, values, start) in steps.items()}
        target = common_descending_value(list(curves.values())) if value is None else value
        points = {
            key: None if target is None else descending_crossing(values, target, start)
            for key, (values, start) in curves.items()
        }
    rows = []
    for key, path in paths.items():
        identity = models[key].iloc[0][["key", *IDENTITY]].to_dict()
        point = points[key]
        step = (
            None if point is None else float(np.interp(point, np.arange(len(steps[key][0])), steps[key][0]))
        )
        rows.append(identity | _row(path, step, on, columns, target))
    return pd.DataFrame(rows).sort_values([*IDENTITY, "key"], ignore_index=True)


def _matched_steps(path: pd.DataFrame, on: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Steps and values of a column where it is known, and the index of the start of the last stage."""
    known = path.dropna(subset=[on])
    last = known.key == path.key.iloc[-1]
    steps, values = known[["step", on]].to_numpy(dtype=np.float64).T
    return steps, values, max(int(np.argmax(last)) - 1, 0) if last.any() else len(known) - 1


def _row(
    path: pd.DataFrame, step: float | None, on: str, columns: Sequence[str], target: float | None
) -> dict[str, Any]:
    """The columns of a row that describe a step of a path; a base beyond the target has its own value."""
    if step is None or target is None:
        names = ["matched_step", on, *columns]
        return dict.fromkeys(names, np.nan) | {"matched_mechanism": None, "reaches_value": False}
    values = {name: _value_at(path, name, step) for name in (on, *columns)}
    if step > 0:
        values[on] = target  # exactly, without the rounding of the interpolation
    mechanism = path.mechanism[path.step >= step].iloc[0]
    return {"matched_step": step, **values, "matched_mechanism": mechanism, "reaches_value": True}


def _value_at(path: pd.DataFrame, name: str, step: float) -> float:
    """A column at a step, linear between the kept steps at which it is known; NaN outside of them."""
    known = path[["step", name]].astype(float).dropna()
    if known.empty:
        return np.nan
    return float(np.interp(step, known.step, known[name], left=np.nan, right=np.nan))


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
