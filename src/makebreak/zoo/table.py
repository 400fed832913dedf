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
LINE = ["world", "seed", "pretraining"]  # of a base and all that starts from it
IDENTITY = [*LINE, "mechanism", "learning_rate", "weight_decay"]


def table(store: Store | Path | str) -> pd.DataFrame:
    """The zoo: every model of a store that `build` would return, and what measures have found in it.

    Columns: key and step; IDENTITY (world, pretraining seed, pretraining family, mechanism, rate and weight decay of
    the last stage); steps of that stage; then those of every measure, empty where it was not taken. Raises ValueError
    where one measure was taken of one model with two settings, or where a column is given twice.
    """
    root = store.root if isinstance(store, Store) else Path(store)
    models = [row for stage in ("pretraining", "alignment") for row in _models(root / stage)]
    found = pd.DataFrame(models, columns=[*KEY, *IDENTITY, "steps"]).astype({"key": "str", "step": "int64"})
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
                raise ValueError(f"column {name!r} of {folder.name} is in the table already: give it another name")
            found = found.merge(columns, on=KEY, how="left")
    return found.sort_values([*IDENTITY, "step"], ignore_index=True)


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
        recipe = from_json(Recipe, config)
        last = recipe.alignments[-1].optimisation if recipe.alignments else recipe.optimisation
        identity = (recipe.world, recipe.seed, recipe.pretraining.family, recipe.mechanism)
        settings = (last.learning_rate, last.weight_decay)
        row = dict(zip(IDENTITY, (*identity, *settings), strict=True))
        rows += [{"key": path.name, "step": step, **row, "steps": last.steps} for step in checkpoints(path)]
    return rows


def _columns(folder: Path) -> list[dict[str, Any]]:
    records = _finished(folder)
    newest = max((record["revision"] for _, record in records), default=0)
    return [
        {"key": record["parents"][0], "step": record["config"]["step"]}
        | json.loads((path / MEASURED).read_text())["columns"]
        for path, record in records
        if record["revision"] == newest
    ]


def at_equal(zoo: pd.DataFrame, on: str, *, columns: Sequence[str], value: float | None = None) -> pd.DataFrame:
    """Models compared at an equal value of one column, as `margin` or `kl_on_safe`.

    A run goes from its base (step 0) through its kept steps; `columns` are interpolated linearly where it first
    reaches `value`, by default the greatest value that every run reaches. One row per run (IDENTITY) with `reached`
    and the interpolated step; a run that does not reach it has empty columns, one whose base is beyond it the base's.
    Raises ValueError for an unknown column, where no run has a value, or where two models are of one IDENTITY.
    """
    for name in (on, *columns):
        if name not in zoo:
            raise ValueError(f"column {name!r} is not in the table; {nearest(name, list(zoo.columns))}")
    bases, others = zoo[zoo.mechanism == "base"], zoo[zoo.mechanism != "base"]
    _check_alone(bases, [*LINE, "mechanism"])
    _check_alone(others, IDENTITY)
    start = bases.sort_values("step").groupby(LINE).tail(1)
    runs = {}
    for identity, rows in others.groupby(IDENTITY):
        begin = start.merge(rows[LINE].head(1)).assign(step=0)
        path = pd.concat([begin, rows.sort_values("step")])[["step", on, *columns]].dropna(subset=[on])
        if len(path) > 1 and path.step.iloc[0] == 0:
            runs[identity] = path.to_numpy(dtype=np.float64)
    if not runs:
        raise ValueError(f"no run of the table has {on!r} at its base and at a later step: measure it first")
    target = min(path[:, 1].max() for path in runs.values()) if value is None else value
    rows = []
    for identity, path in runs.items():
        at = _first_at(path, target)
        values = dict(zip(["at_step", on, *columns], np.full(path.shape[1], np.nan) if at is None else at, strict=True))
        rows.append(dict(zip(IDENTITY, identity, strict=True)) | values | {"reached": at is not None})
    return pd.DataFrame(rows)


def _check_alone(models: pd.DataFrame, identity: list[str]) -> None:
    for _, rows in models.groupby(identity):
        keys = rows.key.unique()
        if len(keys) > 1:
            name = " ".join(map(str, rows[identity].iloc[0]))
            raise ValueError(f"{name}: models {keys[0]} and {keys[1]} are not one run, keep one of them in the table")


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
