"""Which models are there, and what is known of each? One row per model and kept step."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from makebreak.artifacts import RECORD_FILE, Store, result_key
from makebreak.configs import from_json, nearest
from makebreak.defences import digest
from makebreak.recipes import REVISION, Recipe, checkpoints
from makebreak.requests import load_world
from makebreak.zoo.measure import MEASURED

KEY = ["key", "step"]
IDENTITY = ["world", "seed", "pretraining", "mechanism", "settings", "learning_rate", "weight_decay", "steps"]


_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError)
"""Errors of a stored result that this program cannot read."""


def table(store: Store | Path | str) -> pd.DataFrame:
    """The zoo: every model of a store that `build` would return, and what measures have found in it.

    Columns: key and step; IDENTITY (world, pretraining seed, pretraining family, mechanism; the objective's settings,
    rate, weight decay and steps of the last stage); parent, the key of the model that stage started from, empty for a
    base; then those of every measure, empty where it was not taken. A folder that cannot be read is left out, and one
    warning names all such folders and the reasons. Raises ValueError where the store is no folder, where one measure
    was taken of one model with two settings, or where a column is given twice.
    """
    root = store.root if isinstance(store, Store) else Path(store)
    if not root.is_dir():
        state = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"store {root} {state}: expected the folder of a store")
    unread: list[str] = []
    models = [row for stage in ("pretraining", "alignment") for row in _models(root / stage, unread)]
    found = pd.DataFrame(models, columns=[*KEY, *IDENTITY, "parent"]).astype({"key": "str", "step": "int64"})
    for folder in sorted(root.glob("measure-*")):
        columns = pd.DataFrame(_columns(folder, unread))
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
    if unread:
        warnings.warn(f"left out of the table of {root}: {'; '.join(unread)}", stacklevel=2)
    return found.sort_values([*IDENTITY, *KEY], ignore_index=True)


def _finished(folder: Path, unread: list[str]) -> list[tuple[Path, dict[str, Any]]]:
    """The finished results of a stage with their records; `unread` gets a line for each folder that is none."""
    results = []
    for path in sorted(p for p in folder.glob("*") if p.is_dir() and p.suffix not in (".partial", ".lock")):
        try:
            record = json.loads((path / RECORD_FILE).read_text())
            results.append((path, record | {"revision": int(record["revision"])}))
        except _UNREADABLE as error:
            unread.append(_reason(path, error))
    return results


def _check_name(path: Path, record: dict[str, Any]) -> None:
    """Raises ValueError where a folder, as a copy, does not have the name of the result that its record describes."""
    parents = [Path(key) for key in record["parents"]]
    if path.name != result_key(record["stage"], record["revision"], record["config"], parents):
        raise ValueError(f"{RECORD_FILE} describes the result of another folder")


def _reason(path: Path, error: Exception) -> str:
    """One line that names a folder and why it cannot be read."""
    if isinstance(error, FileNotFoundError):
        message = f"{Path(error.filename).name} is missing"
    elif isinstance(error, json.JSONDecodeError):
        message = f"not JSON, {error}"
    elif isinstance(error, KeyError):
        message = f"no entry {error}"
    else:
        message = str(error)
    return f"{path} ({' '.join(message.split())})"


def _models(folder: Path, unread: list[str]) -> list[dict[str, Any]]:
    """Rows of the models of a stage that `build` would return."""
    rows = []
    for path, record in _finished(folder, unread):
        if record["revision"] != REVISION:
            continue  # written by an older revision of training
        try:
            _check_name(path, record)
            config = dict(record["config"])
            if config.pop("world_is") != load_world(config["world"]).fingerprint:
                continue  # trained on an older version of the world
            sources = {
                name.removesuffix(" is"): config.pop(name) for name in list(config) if name.endswith(" is")
            }
            if any(source != digest(mitigation) for mitigation, source in sources.items()):
                continue  # trained with an older version of a user's mitigation
            row = identity(from_json(Recipe, config)) | {"parent": next(iter(record["parents"]), None)}
            rows += [{"key": path.name, "step": step, **row} for step in checkpoints(path)]
        except _UNREADABLE as error:
            unread.append(_reason(path, error))
    return rows


def identity(recipe: Recipe) -> dict[str, Any]:
    """A recipe in the columns IDENTITY."""
    last = recipe.alignments[-1].optimisation if recipe.alignments else recipe.optimisation
    line = (recipe.world, recipe.seed, recipe.pretraining.family, recipe.mechanism)
    settings = recipe.alignments[-1].settings if recipe.alignments else ""
    stage = (settings, last.learning_rate, last.weight_decay, last.steps)
    return dict(zip(IDENTITY, (*line, *stage), strict=True))


def _columns(folder: Path, unread: list[str]) -> list[dict[str, Any]]:
    """Columns of a measure's newest revision, one row per model and step."""
    records = _finished(folder, unread)
    newest = max((record["revision"] for _, record in records), default=0)
    rows = []
    for path, record in records:
        if record["revision"] == newest:
            try:
                _check_name(path, record)
                columns = dict(json.loads((path / MEASURED).read_text())["columns"])
                rows.append({"key": record["parents"][0], "step": int(record["config"]["step"])} | columns)
            except _UNREADABLE as error:
                unread.append(_reason(path, error))
    return rows


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
