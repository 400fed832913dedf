"""Association of a new measure with the outcomes of the models of the table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from makebreak.configs import from_json, to_json
from makebreak.errors import InvalidInput
from makebreak.fragility.grid import BASELINE_SIGNS, BASELINES, PREDICTOR
from makebreak.fragility.models import Training, choose_models, trainings
from makebreak.fragility.table import association_table
from makebreak.model_zoo import Measure, measure
from makebreak.plugins import load_plugin
from makebreak.progress import ProgressBar
from makebreak.recipes import Recipe, build
from makebreak.settings import ScoreSettings
from makebreak.store import Store

NOISE = "random numbers"
"""Name of the control: a predictor that is drawn from a normal distribution."""


def score_measure(address: str, zoo: pd.DataFrame, store: Path, settings: ScoreSettings) -> pd.DataFrame:
    """Computes a measure on models of the table and associates it with their outcomes.

    A model that the store lacks is trained again from its recipe.

    Args:
        address: MODULE:NAME of the measure.
        zoo: The table of models.
        store: Folder of models and measurements; what it has is not computed again.
        settings: Models and claim.

    Returns:
        Rows of `AssociationRow` for every column of the measure, for the three baselines on the same models,
        and for random numbers as a control.

    Raises:
        InvalidInput: If there are too few models, or the measure gives no number on any of them.
    """
    load_measure(address)  # an error before anything is trained
    rows = choose_models(zoo, settings.world, settings.models)
    values = _measure_models(address, trainings(rows), store, settings.workers)
    columns = values.columns[values.notna().any()]
    if not len(columns):
        raise InvalidInput(f"measure {address}: it is undefined on all {len(rows)} models")
    scored = rows.drop(columns=[name for name in rows if str(name).startswith(PREDICTOR)])
    baselines = [name for name in BASELINES if f"{PREDICTOR}{name}" in rows]
    for name in baselines:
        scored[f"{PREDICTOR}{name}"] = rows[f"{PREDICTOR}{name}"]
    for name in columns:
        scored[f"{PREDICTOR}{name}"] = values[name]
    scored[f"{PREDICTOR}{NOISE}"] = np.random.default_rng(0).normal(size=len(rows))
    signs = dict.fromkeys(columns, settings.sign) | {name: BASELINE_SIGNS[name] for name in baselines}
    return association_table(scored, {**signs, NOISE: 0}, by_stage=False)


def load_measure(address: str) -> Measure:
    """The measure MODULE:NAME; raises ValueError or InvalidInput if there is none."""
    plugin = load_plugin("measure", address, {})
    if isinstance(plugin, type):
        plugin = plugin()
    if not isinstance(plugin, Measure):
        raise InvalidInput(
            f"measure {address!r} is {type(plugin).__name__}: expected a function with the decorator "
            "@makebreak.measure(NAME), or a class with name, revision and __call__"
        )
    return plugin


def _measure_models(address: str, selection: Sequence[Training], store: Path, workers: int) -> pd.DataFrame:
    """Columns of a measure by row of the table; bases are trained first, then trainings side by side."""
    bases = list(dict.fromkeys(training.recipe.base for training in selection))
    values: dict[Any, dict[str, float | None]] = {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_use_one_thread) as pool:
        texts = [json.dumps(to_json(base)) for base in bases]
        with ProgressBar("base models", len(bases)) as bar:
            for _ in pool.map(_build, texts, [str(store)] * len(bases)):
                bar.update()
        arguments = [
            (address, json.dumps(to_json(each.recipe)), each.steps, str(store)) for each in selection
        ]
        results = pool.map(_measure_training, *zip(*arguments, strict=True))
        with ProgressBar("trainings", len(selection)) as bar:
            for training, measured in zip(selection, results, strict=True):
                values |= dict(zip(training.rows, measured, strict=True))
                bar.update()
    return pd.DataFrame.from_dict(values, orient="index").astype(float)


def _use_one_thread() -> None:
    torch.set_num_threads(1)


def _build(recipe: str, store: str) -> None:
    build(from_json(Recipe, json.loads(recipe)), Store(Path(store)))


def _measure_training(
    address: str, recipe: str, steps: Sequence[int], store: str
) -> list[dict[str, float | None]]:
    """Columns of a measure at each step of a training."""
    each, training = load_measure(address), from_json(Recipe, json.loads(recipe))
    results = [measure(Store(Path(store)), training, each, step=step) for step in steps]
    return [measurement.columns for [(measurement, _)] in results]
