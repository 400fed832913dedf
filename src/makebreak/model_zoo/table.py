"""The table of the zoo: one row per model and kept step, with the columns of every measure."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from makebreak.model_zoo.measure import MEASUREMENT_FILE
from makebreak.plugins import without_imports
from makebreak.recipes import REVISION, Recipe, kept_steps
from makebreak.recipes.recorded import read_recipe
from makebreak.store import (
    KEY_PATTERN,
    RECORD_FILE,
    DamagedArtifact,
    Store,
    check_presence,
    read_verified,
    verify_record,
)

KEY = ["key", "step"]
"""Columns that name one set of weights: the model's key in the store and the training step."""
IDENTITY = ["world", "seed", "pretraining", "mechanism", "settings", "learning_rate", "weight_decay", "steps"]
"""Columns that say how a model was trained.

`world`, `seed` (of pretraining) and `pretraining` (family of requests) describe the base; `mechanism` names
all training stages after it; `settings`, `learning_rate`, `weight_decay` and `steps` are those of the last
stage.
"""
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError)
"""Errors of a config that this program cannot read."""


def table(store: Store | Path | str) -> pd.DataFrame:
    """The zoo table: the models of a store that `recipes.build` would return, with all measures.

    Models and measurements of an older revision, or of an older version of a world or of a user's objective,
    mitigation or function, are left out. Folders that are no results, and models of a config that this
    program does not know, are left out too, with one warning (`UserWarning`) that names them and the reasons.

    What is verified: every record against the key that names its folder, the set of files of every result
    against its record, and the content of every measurement against its hash. The content of models is not
    read, so that a changed weight is noticed only where a model is opened (`recipes.build`).

    Args:
        store: The store, or its folder.

    Returns:
        One row per model and kept step: `key` and `step`; IDENTITY; `parent`, the key of the model that the
        last stage started from, empty for a base; then the columns of every measure, which depend on the
        measures and are empty where a measure was not taken.

    Raises:
        DamagedArtifact: If a result is not what its record says; names the folder and the remedy.
        ValueError: If the store is no folder, if one measure was taken of one model with two settings, or if
            two measures give the same column.
    """
    root = store.root if isinstance(store, Store) else Path(store)
    if not root.is_dir():
        state = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"store {root} {state}: expected the folder of a store")
    unread: list[str] = []
    models = [row for stage in ("pretraining", "alignment") for row in _models(root / stage, unread)]
    zoo = pd.DataFrame(models, columns=[*KEY, *IDENTITY, "parent"]).astype({"key": "str", "step": "int64"})
    for folder in sorted(root.glob("measure-*")):
        columns = pd.DataFrame(_columns(folder, unread))
        if len(columns):
            _check_columns(folder.name, columns, zoo)
            zoo = zoo.merge(columns, on=KEY, how="left")
    if unread:
        warnings.warn(f"left out of the table of {root}: {'; '.join(unread)}", stacklevel=2)
    return zoo.sort_values([*IDENTITY, *KEY], ignore_index=True)


def _check_columns(name: str, columns: pd.DataFrame, zoo: pd.DataFrame) -> None:
    """Raises ValueError if a measure has two rows for one model, or a column that the table has."""
    is_second = columns.duplicated(KEY)
    if is_second.any():
        key = columns.key[is_second].iloc[0]
        raise ValueError(
            f"{name} was taken of model {key} with two settings: use one store for each, or delete one"
        )
    for column in columns.columns.drop(KEY).intersection(zoo.columns):
        raise ValueError(
            f"column {column!r} of {name} is in the table already: give it another name, "
            f"or delete the folder {name} of the store"
        )


def _finished(folder: Path, unread: list[str]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Finished results of a stage with their records; `unread` gets a line per folder that is no result."""
    if not folder.is_dir():
        if folder.exists() or folder.is_symlink():
            unread.append(f"{folder} (no folder)")
        return
    with os.scandir(folder) as entries:
        names = sorted((entry.name, entry.is_dir()) for entry in entries)
    for name, is_folder in names:
        if KEY_PATTERN.fullmatch(name):
            yield folder / name, verify_record(folder / name)
        elif is_folder and not name.startswith(".") and not name.endswith((".partial", ".lock")):
            unread.append(f"{folder / name} (no result: its name is no key)")


def _models(folder: Path, unread: list[str]) -> list[dict[str, Any]]:
    """Rows of the models of a stage that `build` would return."""
    rows = []
    for path, record in _finished(folder, unread):
        if record["revision"] == REVISION:
            check_presence(path, record["files"])
            try:
                with without_imports():
                    rows += _model_rows(path, record)
            except _UNREADABLE as error:
                reason = f"no entry {error}" if isinstance(error, KeyError) else str(error)
                unread.append(f"{path} ({' '.join(reason.split())})")
    return rows


def _model_rows(path: Path, record: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per kept step of a model; none if its world or a user's source has changed since."""
    recipe = read_recipe(record)
    if recipe is None:
        return []
    row = identity(recipe) | {"parent": next(iter(record["parents"]), None)}
    return [{"key": path.name, "step": step, **row} for step in kept_steps(record)]


def identity(recipe: Recipe) -> dict[str, Any]:
    """A recipe in the columns IDENTITY."""
    last = recipe.alignments[-1] if recipe.alignments else recipe
    return {
        "world": recipe.world,
        "seed": recipe.seed,
        "pretraining": recipe.pretraining.family,
        "mechanism": recipe.mechanism,
        "settings": recipe.alignments[-1].settings if recipe.alignments else "",
        "learning_rate": last.optimisation.learning_rate,
        "weight_decay": last.optimisation.weight_decay,
        "steps": last.optimisation.steps,
    }


def _columns(folder: Path, unread: list[str]) -> list[dict[str, Any]]:
    """Columns of a measure's newest revision, one row per model and step."""
    results = list(_finished(folder, unread))
    newest = max((record["revision"] for _, record in results), default=0)
    results = [(path, record) for path, record in results if record["revision"] == newest]
    return [_measurement(path, record) for path, record in _latest_sources(results)]


def _latest_sources(results: list[tuple[Path, dict[str, Any]]]) -> list[tuple[Path, dict[str, Any]]]:
    """Results without those of earlier sources of a function, which was changed since.

    The latest source is that of the newest result; see `mark_as_latest`.
    """
    latest: dict[Any, Any] = {}
    for _, record in sorted(results, key=lambda result: (result[0] / RECORD_FILE).stat().st_mtime_ns):
        name, source = _function_of(record)
        latest[name] = source
    functions = [_function_of(record) for _, record in results]
    return [
        result for result, (name, source) in zip(results, functions, strict=True) if latest[name] == source
    ]


def mark_as_latest(folder: Path) -> None:
    """Makes a stored measurement the newest, so that a function that was changed back counts as the latest.

    Args:
        folder: Folder of the measurement; the time of its record is set, if it may be.
    """
    with suppress(OSError):
        os.utime(folder / RECORD_FILE)


def _function_of(record: dict[str, Any]) -> tuple[Any, Any]:
    """Name and digest of the function that was measured; None for a measure of another kind."""
    measure = record["config"].get("measure")
    return (measure.get("name"), measure.get("source")) if isinstance(measure, dict) else (None, None)


def _measurement(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The columns of a measurement, with the key and the step of its model."""
    check_presence(path, record["files"])
    content = read_verified(path, MEASUREMENT_FILE, record["files"])
    try:
        columns = dict(json.loads(content)["columns"])
        return {"key": record["parents"][0], "step": int(record["config"]["step"])} | columns
    except _UNREADABLE:
        raise DamagedArtifact(
            f"{path / MEASUREMENT_FILE} is no measurement: delete {path} and run again to compute it anew"
        ) from None
