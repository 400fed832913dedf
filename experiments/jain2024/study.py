"""The study from recipes to verdicts: trains, measures, merges tables and evaluates claims."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from experiments.jain2024.claims import judge
from experiments.jain2024.matched import matched_rows
from experiments.jain2024.measures import attack_measures, checkpoint_measures, final_measures
from experiments.jain2024.worlds import detectability_table
from experiments.recipes.composition import ARMS, PRESETS, Preset
from experiments.results import Results
from experiments.study import Tables, collect_tables
from makebreak.recipes import Recipe, build, checkpoints
from makebreak.store import Store, is_cached
from makebreak.sweeps import Task
from makebreak.tables import Rows
from makebreak.zoo import identity, measure, other_seed

_TASKS_PER_WORKER = 6


class Cell(NamedTuple):
    """One model that is trained and measured."""

    world: str
    """Name of the world."""
    seed: int
    """Pretraining seed."""
    arm: str
    """Arm of the model."""
    all_measures: bool
    """Whether all measures are taken; False where models are only attacked."""

    @property
    def wave(self) -> int:
        """Bases, then aligned models."""
        return int(ARMS[self.arm].method is not None)


def trainings(preset: Preset, world: str, seeds: tuple[int, ...]) -> set[Recipe]:
    """Recipes of every stage of every model, and of the bases of other seeds (see `Study`)."""
    recipes = {preset.recipe(world, other_seed(seed), "base") for seed in seeds}
    for cell in cells(preset, world, seeds):
        recipes.update(preset.recipe(cell.world, cell.seed, cell.arm).lineage)
    return recipes


def cells(preset: Preset, world: str, seeds: tuple[int, ...]) -> list[Cell]:
    """For every seed the study's world first, then the others in which models are attacked."""
    result = []
    for seed in seeds:
        result += [Cell(world, seed, arm, True) for arm in preset.arms]
        for other, arms in preset.other_worlds(world).items():
            result += [Cell(other, seed, arm, False) for arm in arms]
    return result


def tasks(
    preset: Preset, world: str, seeds: tuple[int, ...], store: Path, *, workers: int
) -> list[list[Task]]:
    """What the store lacks: training of bases, then all other models and measurements.

    A process takes seconds to start, so it makes several models where there are many more than workers.
    """
    n_parts = math.ceil(_TASKS_PER_WORKER * workers / len(seeds))
    groups: dict[tuple[str, int, bool], list[str]] = {}
    for cell in cells(preset, world, seeds):
        if not is_cached(store, partial(compute, preset, cell)):
            groups.setdefault((cell.world, cell.seed, cell.all_measures), []).append(cell.arm)
    bases = {(name, seed) for name, seed, _ in groups}
    bases |= {(name, other_seed(seed)) for name, seed, all_measures in groups if all_measures}
    trainings, measurements = [], []
    for name, seed in sorted(bases):
        if not is_cached(store, partial(build, preset.recipe(name, seed, "base"))):
            arguments = (preset.name, name, seed, str(store))
            trainings.append(Task(f"{name} seed {seed} pretraining", f"{__name__}:build_base", arguments))
    for (name, seed, all_measures), arms in groups.items():
        for i in range(min(len(arms), n_parts)):
            part = arms[i::n_parts]
            label = f"{name} seed {seed} {' '.join(part)}"
            arguments = (preset.name, name, seed, part, str(store), all_measures)
            measurements.append(Task(label, f"{__name__}:build_and_measure", arguments))
    if len(trainings) > workers:  # who is free measures; who needs a base that is in training waits for it
        return [trainings + measurements]
    return [trainings, measurements]


def build_base(preset: str, world: str, seed: int, store: str) -> None:
    """Trains a base, unless the store has it; arguments are those of a `Task`."""
    build(PRESETS[preset].recipe(world, seed, "base"), Store(Path(store)))


def build_and_measure(
    preset: str, world: str, seed: int, arms: list[str], store: str, all_measures: bool
) -> None:
    """Trains and measures models of one seed, unless the store has them; arguments are those of a `Task`."""
    for arm in arms:
        compute(PRESETS[preset], Cell(world, seed, arm, all_measures), Store(Path(store)))


def compute(preset: Preset, cell: Cell, store: Store) -> tuple[Tables, list[Path]]:
    """Tables of one model, without the columns seed and arm, and the folders that they come from."""
    measure_model = _measure_all if cell.all_measures else _measure_attacks
    return measure_model(preset, cell.world, cell.seed, cell.arm, store)


def _measure_all(preset: Preset, world: str, seed: int, arm: str, store: Store) -> tuple[Tables, list[Path]]:
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
            if is_final:
                measures = final_measures(preset, arm)
            else:
                measures = checkpoint_measures(preset, arm, early=_is_early(stage, step))
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
    return {**tables}, folders


def _is_early(recipe: Recipe, step: int) -> bool:
    """Whether a step is kept beside the evenly spaced ones and the last one."""
    optimisation = recipe.alignments[-1].optimisation if recipe.alignments else recipe.optimisation
    evenly_spaced = replace(optimisation, extra_checkpoints=()).checkpoint_steps
    return step not in {*evenly_spaced, optimisation.steps}


def _measure_attacks(
    preset: Preset, world: str, seed: int, arm: str, store: Store
) -> tuple[Tables, list[Path]]:
    """Rows of the tables about attacks for one model of another world, and their folders."""
    recipe = preset.recipe(world, seed, arm)
    folders = [build(stage, store) for stage in recipe.lineage]
    tables: dict[str, Rows] = {}
    for measurement, folder in measure(store, recipe, *attack_measures(preset)):
        folders.append(folder)
        tables |= measurement.tables
    return {**tables}, folders


def run(preset: Preset, world: str, seeds: tuple[int, ...], store: Store) -> Results:
    """Computes what the store lacks, and evaluates the claims (see `Study`).

    The table `zoo` has one row per checkpoint, as `makebreak.zoo.table` has, with `at`, the number of steps
    since the base.
    """
    tables, folders = collect_tables(cells(preset, world, seeds), partial(compute, preset), store)
    tables = {name: _with_numbers(table) for name, table in tables.items()}
    tables["detectability"], folder = detectability_table(world, store, n=4 * preset.n_requests)
    folders.append(folder)
    tables["matched"] = matched_rows(tables["zoo"])
    return Results(tables, judge(tables, (world, *preset.other_worlds(world))), folders)


def _with_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """The table with numbers in columns that are undefined throughout, too."""
    undefined = table.columns[table.isna().all().to_numpy()]
    return table.astype(dict.fromkeys(undefined, float)).copy()
