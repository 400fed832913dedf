"""The study from recipes to claims: trainings, independent cells, tables and verdicts."""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from experiments.peng2024.claims import evaluate_claims
from experiments.peng2024.fine_tuning import fine_tuning_rows
from experiments.peng2024.landscapes import INTERPOLATION_PREFIX, landscape_tables
from experiments.peng2024.predictors import predictor_rows
from experiments.peng2024.presets import RATES, UNEXPOSED_BASE, Preset, attacks_on
from experiments.peng2024.variants import rows_of_preset_width, variant_rows
from experiments.results import Results
from experiments.study import Tables, collect_tables, missing_tasks
from makebreak.landscape import basin_rows
from makebreak.recipes import Recipe, build
from makebreak.store import Store
from makebreak.sweeps import Task


class Cell(NamedTuple):
    """A piece of work that one process does: one model."""

    world: str
    """Name of the world."""
    seed: int
    """Pretraining seed."""
    arm: str
    """Arm, or one of the preset's variants."""
    only_trained: bool = False
    """Whether the model is trained and nothing else: what is measured of others needs it."""

    @property
    def wave(self) -> int:
        """Bases first."""
        return int(not self.only_trained)


def trainings(preset: Preset, world: str, seeds: tuple[int, ...]) -> set[Recipe]:
    """Recipes of all stages of a run; those of `jain2024` that lie in the store are not repeated."""
    targets = [preset.recipe(world, seed, arm) for seed, arm in product(seeds, preset.attacked_arms)]
    targets += [preset.variant_recipe(world, seed, name) for seed, name in product(seeds, preset.variants)]
    stages = {stage for recipe in targets for stage in recipe.lineage}
    for seed, arm, rate in product(seeds, preset.attacked_arms, RATES):
        stages |= {preset.attack_recipe(world, seed, arm, attack, rate) for attack in attacks_on(arm)}
    return stages


def tasks(
    preset: Preset, world: str, seeds: tuple[int, ...], store: Path, *, workers: int
) -> list[list[Task]]:
    """Cells that the store lacks, in two waves: the bases, then everything about each model."""
    bases = ("base", UNEXPOSED_BASE) if preset.include_unexposed_base else ("base",)
    trained = [Cell(world, seed, arm, only_trained=True) for seed, arm in product(seeds, bases)]
    with_bases = [*trained, *cells(preset, world, seeds)]
    return missing_tasks(with_bases, partial(compute, preset), store, __name__, preset.name)


def cells(preset: Preset, world: str, seeds: tuple[int, ...]) -> list[Cell]:
    """Cells of a run (see `Study`)."""
    arms = (*preset.attacked_arms, *preset.variants)
    return [Cell(world, seed, arm) for seed, arm in product(seeds, arms)]


def compute(preset: Preset, cell: Cell, store: Store) -> tuple[Tables, list[Path]]:
    """Tables of one model, without columns seed and arm, and the folders that they came from."""
    _, seed, arm, only_trained = cell
    if only_trained:
        return {}, [build(preset.recipe(cell.world, seed, arm), store)]
    if arm in preset.variants:
        variants, folders = variant_rows(preset, cell.world, seed, arm, store)
        return {"variants": variants}, folders
    if arm == UNEXPOSED_BASE:
        attacks, folders = fine_tuning_rows(preset, cell.world, seed, arm, store)
        return {"fine_tuning": attacks}, folders
    tables, folders = landscape_tables(preset, cell.world, seed, arm, store)
    return {**tables}, folders


def run(preset: Preset, world: str, seeds: tuple[int, ...], store: Store) -> Results:
    """Computes what the store lacks, and evaluates the claims (see `Study`)."""
    tables, folders = collect_tables(cells(preset, world, seeds), partial(compute, preset), store)
    is_line = tables["curves"].direction.str.startswith(INTERPOLATION_PREFIX)
    tables["basins"] = basin_rows(tables["curves"][~is_line], ("seed", "arm", "direction", "direction_index"))
    tables["predictors"] = predictor_rows(tables)
    if "variants" in tables:
        preset_width = rows_of_preset_width(tables["curves"], preset.models.model.d_model)
        tables["variants"] = pd.concat([preset_width, tables["variants"]], ignore_index=True)
    return Results(tables, evaluate_claims(tables), folders)
