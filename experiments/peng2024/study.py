"""The study from recipes to claims: trainings, independent tasks, tables and verdicts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from experiments.peng2024.claims import evaluate_claims
from experiments.peng2024.fine_tuning import fine_tuning_rows
from experiments.peng2024.landscapes import INTERPOLATION_PREFIX, landscape_tables
from experiments.peng2024.predictors import predictor_rows
from experiments.peng2024.presets import PRESETS, RATES, UNEXPOSED_BASE, Preset, attacks_on
from experiments.peng2024.variants import rows_of_preset_width, variant_rows
from experiments.results import Results
from makebreak.landscape import basin_rows
from makebreak.recipes import Recipe, build
from makebreak.store import Store, is_cached
from makebreak.sweeps import Task
from makebreak.tables import as_dicts

Tables = dict[str, list[dict[str, Any]]]
"""Rows by table."""


def trainings(preset: Preset, world: str, seeds: tuple[int, ...]) -> set[Recipe]:
    """Every training of a run; those of `jain2024` that lie in the store are not repeated.

    Args:
        preset: The preset.
        world: Name of the world.
        seeds: Pretraining seeds.

    Returns:
        Recipes of all stages.
    """
    targets = [preset.recipe(world, seed, arm) for seed, arm in product(seeds, preset.attacked_arms)]
    targets += [preset.variant_recipe(world, seed, name) for seed, name in product(seeds, preset.variants)]
    stages = {stage for recipe in targets for stage in recipe.lineage}
    for seed, arm, rate in product(seeds, preset.attacked_arms, RATES):
        stages |= {preset.attack_recipe(world, seed, arm, attack, rate) for attack in attacks_on(arm)}
    return stages


def tasks(
    preset: Preset, world: str, seeds: tuple[int, ...], store: Path, *, workers: int
) -> list[list[Task]]:
    """Tasks whose results the store lacks, in two waves: the bases, then everything about each model.

    Args:
        preset: The preset.
        world: Name of the world.
        seeds: Pretraining seeds.
        store: Folder of the store.
        workers: Number of processes; the tasks do not depend on it.

    Returns:
        Waves of tasks that do not depend on one another.
    """
    bases = ["base", *([UNEXPOSED_BASE] if preset.include_unexposed_base else [])]
    models = (*preset.variants, *preset.attacked_arms)
    waves = [
        [("train_model", seed, arm) for seed, arm in product(seeds, bases)],
        [("measure_model", seed, arm) for arm, seed in product(models, seeds)],
    ]
    return [
        [
            Task(
                f"{world} seed {seed} {arm}",
                f"{__name__}:{function}",
                (preset.name, world, seed, arm, str(store)),
            )
            for function, seed, arm in wave
            if not is_cached(store, partial(_STEPS[function], preset, world, seed, arm))
        ]
        for wave in waves
    ]


def train_model(preset: str, world: str, seed: int, arm: str, store: str) -> None:
    """Trains one model; arguments are those of a `Task`."""
    _train(PRESETS[preset], world, seed, arm, Store(Path(store)))


def measure_model(preset: str, world: str, seed: int, arm: str, store: str) -> None:
    """Trains, attacks and perturbs one model; arguments are those of a `Task`."""
    _measure(PRESETS[preset], world, seed, arm, Store(Path(store)))


def _train(preset: Preset, world: str, seed: int, arm: str, store: Store) -> None:
    build(preset.recipe(world, seed, arm), store)


def _measure(preset: Preset, world: str, seed: int, arm: str, store: Store) -> tuple[Tables, list[Path]]:
    """Tables of one model, without columns seed and arm, and the folders that they came from."""
    if arm in preset.variants:
        variants, folders = variant_rows(preset, world, seed, arm, store)
        return {"variants": variants}, folders
    if arm == UNEXPOSED_BASE:
        attacks, folders = fine_tuning_rows(preset, world, seed, arm, store)
        return {"fine_tuning": as_dicts(attacks)}, folders
    return landscape_tables(preset, world, seed, arm, store)


_STEPS: dict[str, Callable[..., Any]] = {"train_model": _train, "measure_model": _measure}


def run(preset: Preset, world: str, seeds: tuple[int, ...], store: Store) -> Results:
    """Computes what the store lacks, and evaluates the claims.

    Args:
        preset: The preset.
        world: Name of the world.
        seeds: Pretraining seeds.
        store: Store of models and outcomes.

    Returns:
        Tables, claims and the folders that they came from.
    """
    rows: Tables = {}
    folders: list[Path] = []
    arms = (*preset.attacked_arms, *preset.variants)
    models = list(product(seeds, arms))
    for seed, arm in tqdm(models, desc="models", disable=not sys.stderr.isatty()):
        tables_of_model, used = _measure(preset, world, seed, arm, store)
        folders += used
        for name, table in tables_of_model.items():
            rows.setdefault(name, []).extend({"seed": seed, "arm": arm} | row for row in table)
    tables = {name: pd.DataFrame(table) for name, table in rows.items()}
    is_line = tables["curves"].direction.str.startswith(INTERPOLATION_PREFIX)
    tables["basins"] = basin_rows(tables["curves"][~is_line], ("seed", "arm", "direction", "direction_index"))
    tables["predictors"] = predictor_rows(tables)
    if "variants" in tables:
        preset_width = rows_of_preset_width(tables["curves"], preset.models.model.d_model)
        tables["variants"] = pd.concat([preset_width, tables["variants"]], ignore_index=True)
    return Results(tables, evaluate_claims(tables), list(dict.fromkeys(folders)))
