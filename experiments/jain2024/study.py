"""Build, align, measure, judge, draw: the study from recipes to report."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from experiments.jain2024.claims import judge
from experiments.jain2024.equal import equal
from experiments.jain2024.measure import at_end, attacks, on_the_way
from experiments.jain2024.presets import ARMS, PRESETS, Preset
from experiments.jain2024.worlds import readers
from makebreak.artifacts import Store, made
from makebreak.recipes import Recipe, build, checkpoints
from makebreak.sweeps import Task
from makebreak.zoo import identity, measure, other_seed


@dataclass(frozen=True)
class Results:
    """The study's tables, one row per (seed, arm, …), its claims, and the folders that everything came from.

    tables: `zoo` has a row per kept model, as `makebreak.zoo.table` has, with `at`, steps since the base.
    """

    tables: dict[str, pd.DataFrame]
    claims: list[dict[str, Any]]
    folders: list[Path]


def trainings(preset: Preset, world: str, seeds: tuple[int, ...]) -> set[Recipe]:
    """Every training that a run is made of, warm starts included, and the bases that others are compared with."""
    compared = {preset.recipe(world, other_seed(seed), "base") for seed in seeds}
    others = {
        stage
        for other, arms in preset.others(world).items()
        for seed in seeds
        for arm in arms
        for stage in preset.recipe(other, seed, arm).lineage
    }
    return (
        compared
        | others
        | {s for seed in seeds for arm in preset.arms for s in preset.recipe(world, seed, arm).lineage}
    )


def _plan(preset: Preset, world: str) -> list[tuple[str, tuple[str, ...], bool]]:
    """The study's world and the others: name, arms, and whether its models are looked into, or only attacked."""
    return [
        (world, preset.arms, True),
        *((other, arms, False) for other, arms in preset.others(world).items()),
    ]


def tasks(
    preset: Preset, world: str, seeds: tuple[int, ...], store: Path, *, workers: int
) -> list[list[Task]]:
    """The study's models and measures that the store lacks, as waves of independent tasks: the bases, then what starts
    from them.

    A process takes seconds to start, so it makes several models where there are many more than workers.
    """
    waves: list[list[Task]] = []
    for bases in (True, False):
        wave: list[Task] = []
        for learnt, every, whole in _plan(preset, world):
            n_parts = math.ceil(4 * workers / len(seeds))
            for seed in seeds:
                arms = [arm for arm in every if (ARMS[arm].method is None) == bases]
                look = _measured if whole else _attacked
                arms = [arm for arm in arms if not made(store, partial(look, preset, learnt, seed, arm))]
                for part in (arms[i::n_parts] for i in range(min(len(arms), n_parts))):
                    label = f"{learnt} seed {seed} {' '.join(part)}"
                    given = (preset.name, learnt, seed, part, str(store), whole)
                    wave.append(Task(label, "experiments.jain2024.study:make", given))
        waves.append(wave)
    return waves


def make(preset: str, world: str, seed: int, arms: list[str], store: str, whole: bool) -> None:
    """Everything of some arms of a seed that is not in the store: models, kept steps, measures."""
    for arm in arms:
        (_measured if whole else _attacked)(PRESETS[preset], world, seed, arm, Store(Path(store)))


def _measured(
    preset: Preset, world: str, seed: int, arm: str, store: Store
) -> tuple[dict[str, Any], list[Path]]:
    """Rows of every table for one model, and the folders that they came from."""
    recipe = preset.recipe(world, seed, arm)
    ends, passes = at_end(preset, arm), on_the_way(preset, arm)
    folders = [
        build(preset.recipe(world, other_seed(seed), "base"), store)
    ]  # what the update is compared with
    rows: dict[str, list[dict[str, Any]]] = {"zoo": []}
    before, parent = 0, None if recipe == recipe.base else build(recipe.base, store).name
    for stage in recipe.lineage[1:] or (recipe,):
        model = build(stage, store)
        steps = checkpoints(model)
        folders.append(model)
        said = {"key": model.name, "parent": parent} | identity(stage)
        for step in steps:
            last = stage == recipe and step == max(steps)
            found = measure(store, stage, *(ends if last else passes), step=step)
            folders += [folder for _, folder in found]
            columns = {name: value for measured, _ in found for name, value in measured.columns.items()}
            rows["zoo"].append(said | {"step": step, "at": before + step} | columns)
            for measured, _ in found if last else []:
                for name, table in measured.tables.items():
                    rows.setdefault(name, []).extend(table)
        before, parent = before + max(steps), model.name
    return rows, folders


def _attacked(
    preset: Preset, world: str, seed: int, arm: str, store: Store
) -> tuple[dict[str, list[dict[str, Any]]], list[Path]]:
    """The same for a model of another world, which is only attacked."""
    recipe = preset.recipe(world, seed, arm)
    folders, rows = [build(stage, store) for stage in recipe.lineage], {}
    for measured, folder in measure(store, recipe, *attacks(preset)):
        folders.append(folder)
        rows |= measured.tables
    return rows, folders


def run(preset: Preset, world: str, seeds: tuple[int, ...], store: Store) -> Results:
    """Everything that is not yet in the store, seed by seed, then the tables and the verdicts."""
    rows: dict[str, list[dict[str, Any]]] = {}
    folders: list[Path] = []
    plan = _plan(preset, world)
    n_models = len(seeds) * sum(len(arms) for _, arms, _ in plan)
    with tqdm(total=n_models, desc="models", disable=not sys.stderr.isatty()) as bar:
        for seed, (learnt, arms, whole) in product(seeds, plan):
            for arm in arms:
                found, used = (_measured if whole else _attacked)(preset, learnt, seed, arm, store)
                folders += used
                for name, table in found.items():
                    rows.setdefault(name, []).extend({"seed": seed, "arm": arm} | row for row in table)
                bar.update()
    tables = {name: _frame(found) for name, found in rows.items()}
    tables["detectability"], folder = readers(world, store, n=4 * preset.n_requests)
    folders.append(folder)
    tables["equal"] = equal(tables["zoo"])
    claims = judge(tables, (world, *preset.others(world)))
    return Results(tables, claims, folders)


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Columns that are undefined throughout are numbers too."""
    table = pd.DataFrame(rows)
    undefined = table.columns[table.isna().all().to_numpy()]
    return table.astype(dict.fromkeys(undefined, float)).copy()
