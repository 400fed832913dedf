"""Which models are there, and what is known of each? One row per model and kept step."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from makebreak.artifacts import RECORD, Store
from makebreak.configs import from_json, nearest
from makebreak.recipes import REVISION, Recipe, checkpoints
from makebreak.requests import load_world
from makebreak.zoo.measure import MEASURED

KEY = ["key", "step"]
IDENTITY = ["world", "seed", "pretraining", "mechanism", "settings", "learning_rate", "weight_decay", "steps"]


def table(store: Store | Path | str) -> pd.DataFrame:
    """The zoo: every model of a store that `build` would return, and what measures have found in it.

    Columns: key and step; IDENTITY (world, pretraining seed, pretraining family, mechanism; the objective's settings,
    rate, weight decay and steps of the last stage); parent, the key of the model that stage started from, empty for a
    base; then those of every measure, empty where it was not taken. Raises ValueError where one measure was taken of
    one model with two settings, or where a column is given twice.
    """
    root = store.root if isinstance(store, Store) else Path(store)
    models = [row for stage in ("pretraining", "alignment") for row in _models(root / stage)]
    found = pd.DataFrame(models, columns=[*KEY, *IDENTITY, "parent"]).astype({"key": "str", "step": "int64"})
    for folder in sorted(root.glob("measure-*")):
        columns = pd.DataFrame(_columns(folder))
        if len(columns):
            twice = columns.duplicated(KEY)
            if twice.any():
                where = columns.loc[twice.idxmax(), "key"]
                raise ValueError(
                    f"{folder.name} was taken of model {where} with two settings: use one store for each, or delete one"
                )
            for name in columns.columns.drop(KEY).intersection(found.columns):
                raise ValueError(
                    f"column {name!r} of {folder.name} is in the table already: give it another name"
                )
            found = found.merge(columns, on=KEY, how="left")
    return found.sort_values([*IDENTITY, *KEY], ignore_index=True)


def _finished(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    paths = sorted(p for p in folder.glob("*") if p.is_dir() and not p.suffix)
    return [(path, json.loads((path / RECORD).read_text())) for path in paths]


def _models(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for path, record in _finished(folder):
        if record["revision"] != REVISION:
            continue  # of an older program
        config = dict(record["config"])
        if config.pop("world_is") != load_world(config["world"]).fingerprint:
            continue  # of an older world
        row = identity(from_json(Recipe, config)) | {"parent": next(iter(record["parents"]), None)}
        rows += [{"key": path.name, "step": step, **row} for step in checkpoints(path)]
    return rows


def identity(recipe: Recipe) -> dict[str, Any]:
    """A recipe in the columns IDENTITY."""
    last = recipe.alignments[-1].optimisation if recipe.alignments else recipe.optimisation
    line = (recipe.world, recipe.seed, recipe.pretraining.family, recipe.mechanism)
    settings = recipe.alignments[-1].settings if recipe.alignments else ""
    stage = (settings, last.learning_rate, last.weight_decay, last.steps)
    return dict(zip(IDENTITY, (*line, *stage), strict=True))


def _columns(folder: Path) -> list[dict[str, Any]]:
    records = _finished(folder)
    newest = max((record["revision"] for _, record in records), default=0)
    return [
        {"key": record["parents"][0], "step": record["config"]["step"]}
        | json.loads((path / MEASURED).read_text())["columns"]
        for path, record in records
        if record["revision"] == newest
    ]


def at_equal(
    zoo: pd.DataFrame, on: str, *, columns: Sequence[str], value: float | None = None
) -> pd.DataFrame:
    """Models compared at an equal value of one column, as `margin` or `kl_on_safe`.

    A run goes from its base (step 0) through the kept steps of all its stages, counted through; `columns` are
    interpolated linearly where it first reaches `value`, by default the greatest value that every run reaches. One row
    per run (key and IDENTITY) with `reached`, the interpolated step and `within`, the mechanism that had been reached
    by then; a run that does not reach it has empty columns, one whose base is beyond it the base's. A run whose base
    has no value is left out. Raises ValueError for an unknown column, where a run's start is not in the table, or where
    no run has a value.
    """
    for name in (on, *columns):
        if name not in zoo:
            raise ValueError(f"column {name!r} is not in the table; {nearest(name, list(zoo.columns))}")
    models = {str(key): rows for key, rows in zoo.sort_values("step").groupby("key")}
    runs = {}
    for key, rows in models.items():
        path = _path(models, key).dropna(subset=[on])
        if not pd.isna(rows.parent.iloc[0]) and len(path) > 1 and path.step.iloc[0] == 0:
            runs[key] = path
    if not runs:
        raise ValueError(f"no run of the table has {on!r} at its base and at a later step: measure it first")
    target = min(path[on].max() for path in runs.values()) if value is None else value
    names, found = ["at_step", on, *columns], []
    for key, path in runs.items():
        at = _first_at(path[["step", on, *columns]].to_numpy(dtype=np.float64), target)
        values = dict(zip(names, np.full(len(names), np.nan) if at is None else at, strict=True))
        within = None if at is None else path.mechanism[path.step >= at[0]].iloc[0]
        identity = models[key].iloc[0][["key", *IDENTITY]].to_dict()
        found.append(identity | values | {"within": within, "reached": at is not None})
    return pd.DataFrame(found).sort_values([*IDENTITY, "key"], ignore_index=True)


def _path(models: dict[str, pd.DataFrame], key: str) -> pd.DataFrame:
    """The kept models of a run and of those it came from, base first; steps counted from the base's last."""
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


def _first_at(path: np.ndarray, target: float) -> np.ndarray | None:
    """The row of a path, (points, values) with the matched column second, where that column first is `target`."""
    above = path[:, 1] >= target
    if not above.any():
        return None
    after = int(above.argmax())
    low, high = path[after - 1], path[after]
    if after == 0 or high[1] == target:
        return high
    share = (target - low[1]) / (high[1] - low[1])
    found = low + share * (high - low)
    found[1] = target  # but for rounding
    return found
