"""The study from recipes to verdicts: trains, measures, merges tables and evaluates claims."""

from __future__ import annotations

import math
import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from tqdm import tqdm

from experiments.jain2024.claims import judge
from experiments.jain2024.matched import matched_rows
from experiments.jain2024.measures import attack_measures, checkpoint_measures, final_measures
from experiments.jain2024.worlds import detectability_table
from experiments.recipes.composition import ARMS, PRESETS, Preset
from experiments.results import Results
from makebreak.recipes import Recipe, build, checkpoints
from makebreak.store import Store, is_cached
from makebreak.sweeps import Task
from makebreak.tables import Rows
from makebreak.zoo import identity, measure, other_seed


class WorldPlan(NamedTuple):
    """Models of one world that the study trains."""

    world: str
    """Name of the world."""
    arms: tuple[str, ...]
    """Arms that are trained."""
    all_measures: bool
    """Whether all measures are taken; False where models are only attacked."""


def trainings(preset: Preset, world: str, seeds: tuple[int, ...]) -> set[Recipe]:
    """All trainings of a run: every stage of every model, and the bases of other seeds.

    Args:
        preset: Sizes of the study.
        world: The study's world.
        seeds: Pretraining seeds.

    Returns:
        The recipes.
    """
    recipes = {preset.recipe(world, other_seed(seed), "base") for seed in seeds}
    for plan, seed in product(_plans(preset, world), seeds):
        for arm in plan.arms:
            recipes.update(preset.recipe(plan.world, seed, arm).lineage)
    return recipes


def _plans(preset: Preset, world: str) -> list[WorldPlan]:
    """The study's world first, then the others in which models are attacked."""
    others = [WorldPlan(other, arms, False) for other, arms in preset.other_worlds(world).items()]
    return [WorldPlan(world, preset.arms, True), *others]


def tasks(
    preset: Preset, world: str, seeds: tuple[int, ...], store: Path, *, workers: int
) -> list[list[Task]]:
    """Models and measurements that the store lacks, in two waves of tasks: bases, then aligned models.

    A process takes seconds to start, so it makes several models where there are many more than workers.

    Args:
        preset: Sizes of the study.
        world: The study's world.
        seeds: Pretraining seeds.
        store: Folder of the store.
        workers: Number of processes that run at once.

    Returns:
        The tasks of each wave.
    """
    n_parts = math.ceil(4 * workers / len(seeds))
    waves: list[list[Task]] = []
    for is_base in (True, False):
        wave: list[Task] = []
        for plan, seed in product(_plans(preset, world), seeds):
            measure_model = _measure_all if plan.all_measures else _measure_attacks
            arms = [
                arm
                for arm in plan.arms
                if (ARMS[arm].method is None) == is_base
                and not is_cached(store, partial(measure_model, preset, plan.world, seed, arm))
            ]
            for i in range(min(len(arms), n_parts)):
                part = arms[i::n_parts]
                label = f"{plan.world} seed {seed} {' '.join(part)}"
                arguments = (preset.name, plan.world, seed, part, str(store), plan.all_measures)
                wave.append(Task(label, "experiments.jain2024.study:build_and_measure", arguments))
        waves.append(wave)
    return waves


def build_and_measure(
    preset: str, world: str, seed: int, arms: list[str], store: str, all_measures: bool
) -> None:
    """Trains and measures models of one seed, unless the store has them; run by the tasks.

    Args:
        preset: Name of the preset.
        world: Name of the world.
        seed: Pretraining seed.
        arms: Arms that are trained and measured.
        store: Folder of the store.
        all_measures: Whether all measures are taken; False for attacks only.
    """
    measure_model = _measure_all if all_measures else _measure_attacks
    for arm in arms:
        measure_model(PRESETS[preset], world, seed, arm, Store(Path(store)))


def _measure_all(
    preset: Preset, world: str, seed: int, arm: str, store: Store
) -> tuple[dict[str, Rows], list[Path]]:
    """Rows of every table for one model and its checkpoints, and the folders that they come from.

    The table `zoo` has one row per checkpoint of every stage, with `at`, the number of steps since the base.
    """
    recipe = preset.recipe(world, seed, arm)
    other_base = build(preset.recipe(world, other_seed(seed), "base"), store)
    folders = [other_base]
    tables: dict[str, Rows] = {"zoo": []}
    steps_before, parent = 0, None if recipe == recipe.base else build(recipe.base, store).name
    for stage in recipe.lineage[1:] or (recipe,):
        model = build(stage, store)
        folders.append(model)
        columns = {"key": model.name, "parent": parent} | identity(stage)
        steps = list(checkpoints(model))
        for step in steps:
            is_final = stage == recipe and step == max(steps)
            measures = final_measures(preset, arm) if is_final else checkpoint_measures(preset, arm)
            results = measure(store, stage, *measures, step=step)
            folders += [folder for _, folder in results]
            row: dict[str, Any] = columns | {"step": step, "at": steps_before + step}
            for measurement, _ in results:
                row |= measurement.columns
                if is_final:
                    for name, rows in measurement.tables.items():
                        tables.setdefault(name, []).extend(rows)
            tables["zoo"].append(row)
        steps_before, parent = steps_before + max(steps), model.name
    return tables, folders


def _measure_attacks(
    preset: Preset, world: str, seed: int, arm: str, store: Store
) -> tuple[dict[str, Rows], list[Path]]:
    """Rows of the tables about attacks for one model of another world, and their folders."""
    recipe = preset.recipe(world, seed, arm)
    folders = [build(stage, store) for stage in recipe.lineage]
    tables: dict[str, Rows] = {}
    for measurement, folder in measure(store, recipe, *attack_measures(preset)):
        folders.append(folder)
        tables |= measurement.tables
    return tables, folders


def run(preset: Preset, world: str, seeds: tuple[int, ...], store: Store) -> Results:
    """Runs the study; what the store has is not computed again.

    Args:
        preset: Sizes of the study.
        world: The study's world.
        seeds: Pretraining seeds.
        store: Where models and measurements are kept.

    Returns:
        Tables with the columns `seed` and `arm`, the claims and the folders. `zoo` has one row per
        checkpoint, as `makebreak.zoo.table` has, with `at`, the number of steps since the base.
    """
    rows: dict[str, Rows] = {}
    folders: list[Path] = []
    plans = _plans(preset, world)
    n_models = len(seeds) * sum(len(plan.arms) for plan in plans)
    with tqdm(total=n_models, desc="models", disable=not sys.stderr.isatty()) as progress:
        for seed, plan in product(seeds, plans):
            measure_model = _measure_all if plan.all_measures else _measure_attacks
            for arm in plan.arms:
                model_tables, model_folders = measure_model(preset, plan.world, seed, arm, store)
                folders += model_folders
                for name, table in model_tables.items():
                    rows.setdefault(name, []).extend({"seed": seed, "arm": arm} | row for row in table)
                progress.update()
    tables = {name: _data_frame(table) for name, table in rows.items()}
    tables["detectability"], folder = detectability_table(world, store, n=4 * preset.n_requests)
    folders.append(folder)
    tables["matched"] = matched_rows(tables["zoo"])
    claims = judge(tables, (world, *preset.other_worlds(world)))
    return Results(tables, claims, folders)


def _data_frame(rows: Rows) -> pd.DataFrame:
    """Rows as a data frame in which columns that are undefined throughout are numbers too."""
    table = pd.DataFrame(rows)
    undefined = table.columns[table.isna().all().to_numpy()]
    return table.astype(dict.fromkeys(undefined, float)).copy()
