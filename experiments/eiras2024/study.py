"""The study from recipes to evaluated claims: training, evaluation, tables."""

from __future__ import annotations

import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm

from experiments.eiras2024.claims import judge
from experiments.eiras2024.measures import (
    OutcomeRow,
    RelearningRow,
    outcome_rows,
    relearning_rows,
    relearning_starts,
)
from experiments.eiras2024.presets import PRESETS, UNTUNED, Preset
from experiments.results import Results
from makebreak.recipes import Recipe
from makebreak.store import Store, is_cached
from makebreak.sweeps import Task
from makebreak.tables import Rows, as_dicts

_OUTCOMES, _RELEARNING = "outcomes", "relearning"


class Cell(NamedTuple):
    """A piece of work that one process does, for one seed."""

    table: str
    """Table that its rows belong to, `outcomes` or `relearning`."""
    name: str
    """Strategy of the models, or start of harmful fine-tuning."""
    mitigation: str
    """Mitigation of the models, at all shares; empty for harmful fine-tuning."""


def trainings(preset: Preset, world: str, seeds: tuple[int, ...]) -> set[Recipe]:
    """Recipes of all training stages of a run; `world` is ignored, since a preset has one."""
    recipes = [preset.recipe(seed, model) for seed in seeds for model in preset.fine_tuned_models()]
    for seed in seeds:
        starts = relearning_starts(preset, seed).values()
        for start, learning_rate in product(starts, preset.relearning_learning_rates):
            recipes.append(preset.relearning_recipe(start, learning_rate))
    return {stage for recipe in recipes for stage in recipe.lineage}


def tasks(
    preset: Preset, world: str, seeds: tuple[int, ...], store: Path, *, workers: int
) -> list[list[Task]]:
    """Cells that the store lacks, as tasks for other processes.

    Args:
        preset: Sizes of the study.
        world: Ignored, since a preset has one.
        seeds: Pretraining seeds.
        store: Folder of the store.
        workers: Ignored: all tasks of a wave can run at once.

    Returns:
        Three waves, each of which needs the models of the one before: aligned models, fine-tuned models,
        harmful fine-tuning.
    """
    waves: list[list[Task]] = [[], [], []]
    for cell, seed in product(_cells(preset), seeds):
        if is_cached(store, partial(_compute, preset, seed, cell)):
            continue
        label = f"seed {seed} {cell.table} {cell.name} {cell.mitigation}"
        arguments = (preset.name, seed, *cell, str(store))
        waves[_wave(cell)].append(Task(label, f"{__name__}:compute_cell", arguments))
    return waves


def compute_cell(preset: str, seed: int, table: str, name: str, mitigation: str, store: str) -> None:
    """Computes one cell into the store; the function that a task calls.

    Args:
        preset: Name of the preset.
        seed: Pretraining seed.
        table: Field of the `Cell`.
        name: Field of the `Cell`.
        mitigation: Field of the `Cell`.
        store: Folder of the store.
    """
    _compute(PRESETS[preset], seed, Cell(table, name, mitigation), Store(Path(store)))


def run(preset: Preset, world: str, seeds: tuple[int, ...], store: Store) -> Results:
    """Computes what the store lacks, collects the tables and evaluates the claims.

    Args:
        preset: Sizes of the study.
        world: Ignored, since a preset has one.
        seeds: Pretraining seeds.
        store: Cache of models and outcomes.

    Returns:
        Tables `outcomes` and `relearning`, evaluated claims, and the folders that they came from.
    """
    rows: dict[str, Rows] = {_OUTCOMES: [], _RELEARNING: []}
    folders: list[Path] = []
    work = list(product(seeds, _cells(preset)))
    for seed, cell in tqdm(work, desc="tasks", disable=not sys.stderr.isatty()):
        cell_rows, cell_folders = _compute(preset, seed, cell, store)
        folders += cell_folders
        rows[cell.table] += [{"seed": seed, **row} for row in as_dicts(cell_rows)]
    tables = {name: pd.DataFrame(table) for name, table in rows.items()}
    return Results(tables, judge(tables), list(dict.fromkeys(folders)))


def _cells(preset: Preset) -> list[Cell]:
    pairs = dict.fromkeys((model.strategy, model.mitigation) for model in preset.fine_tuned_models())
    cells = [Cell(_OUTCOMES, strategy, mitigation) for strategy, mitigation in pairs]
    return cells + [Cell(_RELEARNING, start, "") for start in relearning_starts(preset, 0)]


def _wave(cell: Cell) -> int:
    if cell.table == _RELEARNING:
        return 2
    return 0 if cell.name == UNTUNED else 1


def _compute(
    preset: Preset, seed: int, cell: Cell, store: Store
) -> tuple[list[OutcomeRow] | list[RelearningRow], list[Path]]:
    """Rows of a cell, and the folders that they came from."""
    if cell.table == _RELEARNING:
        return relearning_rows(preset, seed, cell.name, store)
    rows: list[OutcomeRow] = []
    folders: list[Path] = []
    for model in preset.fine_tuned_models():
        if (model.strategy, model.mitigation) == (cell.name, cell.mitigation):
            model_rows, model_folders = outcome_rows(preset, seed, model, store)
            rows += model_rows
            folders += model_folders
    return rows, folders
