"""The study from recipes to evaluated claims: training, evaluation, tables."""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

from experiments.eiras2024.claims import judge
from experiments.eiras2024.measures import (
    OutcomeRow,
    outcome_rows,
    relearning_rows,
    relearning_starts,
)
from experiments.eiras2024.presets import UNTUNED, Preset
from experiments.results import Results
from experiments.study import Tables, collect_tables, missing_tasks
from makebreak.recipes import Recipe
from makebreak.store import Store
from makebreak.sweeps import Task

_OUTCOMES, _RELEARNING = "outcomes", "relearning"


class Cell(NamedTuple):
    """A piece of work that one process does, for one seed."""

    seed: int
    """Pretraining seed."""
    table: str
    """Table that its rows belong to, `outcomes` or `relearning`."""
    name: str
    """Strategy of the models, or start of harmful fine-tuning."""
    mitigation: str
    """Mitigation of the models, at all shares; empty for harmful fine-tuning."""

    @property
    def wave(self) -> int:
        """Aligned models, then fine-tuned ones, then harmful fine-tuning."""
        if self.table == _RELEARNING:
            return 2
        return 0 if self.name == UNTUNED else 1


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
    """Cells that the store lacks, in three waves: aligned models, fine-tuned ones, harmful fine-tuning."""
    return missing_tasks(cells(preset, world, seeds), partial(compute, preset), store, __name__, preset.name)


def run(preset: Preset, world: str, seeds: tuple[int, ...], store: Store) -> Results:
    """Computes what the store lacks, and evaluates the claims (see `Study`)."""
    tables, folders = collect_tables(cells(preset, world, seeds), partial(compute, preset), store)
    return Results(tables, judge(tables), folders)


def cells(preset: Preset, world: str, seeds: tuple[int, ...]) -> list[Cell]:
    """Cells of a run (see `Study`); `world` is ignored, since a preset has one."""
    pairs = dict.fromkeys((model.strategy, model.mitigation) for model in preset.fine_tuned_models())
    result = []
    for seed in seeds:
        result += [Cell(seed, _OUTCOMES, *pair) for pair in pairs]
        result += [Cell(seed, _RELEARNING, start, "") for start in relearning_starts(preset, seed)]
    return result


def compute(preset: Preset, cell: Cell, store: Store) -> tuple[Tables, list[Path]]:
    """Table of a cell, and the folders that it came from."""
    if cell.table == _RELEARNING:
        steps, folders = relearning_rows(preset, cell.seed, cell.name, store)
        return {_RELEARNING: steps}, folders
    rows: list[OutcomeRow] = []
    folders = []
    for model in preset.fine_tuned_models():
        if (model.strategy, model.mitigation) == (cell.name, cell.mitigation):
            model_rows, model_folders = outcome_rows(preset, cell.seed, model, store)
            rows += model_rows
            folders += model_folders
    return {_OUTCOMES: rows}, folders
