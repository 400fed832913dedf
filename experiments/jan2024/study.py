"""The study from recipes to claims: trainings, independent cells, tables and verdicts."""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from experiments.jan2024.claims import evaluate_claims
from experiments.jan2024.internals import internals_rows, probe_rows, width_rows
from experiments.jan2024.ngram_classifiers import ngram_classifier_rows
from experiments.jan2024.outcomes import after_tuning_rows, before_tuning_rows
from experiments.jan2024.templates import UNTUNED, template_rows, templated_recipe, tuned_templates
from experiments.recipes.formats import RETAIN, Preset
from experiments.results import Results
from experiments.study import Tables, collect_tables, missing_tasks
from makebreak.recipes import Recipe
from makebreak.store import Store
from makebreak.sweeps import Task
from makebreak.tables import as_dicts


class Cell(NamedTuple):
    """A piece of work that one process does, for one seed."""

    world: str
    """Name of the world."""
    seed: int
    """Pretraining seed."""
    coverage: str
    """Coverage of alignment; empty for the world of templates."""
    name: str
    """Format whose task is tuned, `RETAIN`, or `UNTUNED` for the aligned model."""

    @property
    def wave(self) -> int:
        """Aligned models first, then what is fine-tuned from them."""
        return int(self.name != UNTUNED)


def trainings(preset: Preset, world: str, seeds: tuple[int, ...]) -> set[Recipe]:
    """Recipes of all stages of a run (see `Study`)."""
    recipes = []
    for seed, coverage in product(seeds, preset.coverages):
        recipes += [preset.tuned(world, seed, coverage, tuning) for tuning in preset.tunings(coverage)]
    if preset.templated:
        for seed, (task, template) in product(seeds, tuned_templates(preset.templated)):
            recipes.append(templated_recipe(preset.templated, seed, task, template))
    return {stage for recipe in recipes for stage in recipe.lineage}


def tasks(
    preset: Preset, world: str, seeds: tuple[int, ...], store: Path, *, workers: int
) -> list[list[Task]]:
    """Cells that the store lacks, in two waves: aligned models, then fine-tunings of each format."""
    return missing_tasks(cells(preset, world, seeds), partial(compute, preset), store, __name__, preset.name)


def cells(preset: Preset, world: str, seeds: tuple[int, ...]) -> list[Cell]:
    """Cells of a run (see `Study`)."""
    names = (UNTUNED, *preset.formats, RETAIN)
    result = [Cell(world, *values) for values in product(seeds, preset.coverages, names)]
    if preset.templated:
        names = (UNTUNED, *preset.templated.formats)
        result += [Cell(world, seed, "", name) for seed, name in product(seeds, names)]
    return result


def compute(preset: Preset, cell: Cell, store: Store) -> tuple[Tables, list[Path]]:
    """Tables of a cell, and the folders that they came from."""
    if not cell.coverage:
        return _templates(preset, cell, store)
    return (_before_tuning if cell.name == UNTUNED else _after_tuning)(preset, cell, store)


def _templates(preset: Preset, cell: Cell, store: Store) -> tuple[Tables, list[Path]]:
    """Table of templates of one tuned format, in the templated preset's own world and coverage."""
    assert preset.templated
    rows: list[Any] = []
    folders: list[Path] = []
    for task, template in tuned_templates(preset.templated):
        if task == cell.name:
            model_rows, used = template_rows(preset.templated, cell.seed, task, template, store)
            rows += model_rows
            folders += used
    return {"templates": rows}, folders


def _before_tuning(preset: Preset, cell: Cell, store: Store) -> tuple[Tables, list[Path]]:
    """Tables of one aligned model and its base."""
    start = (preset, cell.world, cell.seed, cell.coverage)
    outcomes, folders = before_tuning_rows(*start, store)
    widths, used = width_rows(*start, store)
    tables: Tables = {"before_tuning": outcomes, "widths": widths}
    folders = [*folders, *used]
    if preset.all_kinds and cell.coverage == preset.coverages[0]:
        tables["probes"], used = probe_rows(*start, store)
        folders += used
    return tables, folders


def _after_tuning(preset: Preset, cell: Cell, store: Store) -> tuple[Tables, list[Path]]:
    """Tables of all models that were tuned on one format."""
    start = (preset, cell.world, cell.seed, cell.coverage)
    rows: list[Any] = []
    tables: Tables = {"after_tuning": rows}
    folders: list[Path] = []
    for tuning in preset.tunings(cell.coverage):
        if tuning.format == cell.name:
            model_rows, used = after_tuning_rows(*start, tuning, store)
            rows += model_rows
            folders += used
    if cell.name != RETAIN:
        tables["internals"], used = internals_rows(*start, cell.name, store)
        folders += used
    return tables, folders


def run(preset: Preset, world: str, seeds: tuple[int, ...], store: Store) -> Results:
    """Computes what the store lacks, and evaluates the claims (see `Study`)."""
    tables, folders = collect_tables(cells(preset, world, seeds), partial(compute, preset), store)
    classifiers = []
    for seed in seeds:
        rows, folder = ngram_classifier_rows(preset, world, seed, store)
        classifiers += [{"seed": seed} | row for row in as_dicts(rows)]
        folders.append(folder)
    tables["ngram_classifiers"] = pd.DataFrame(classifiers)
    return Results(tables, evaluate_claims(tables), folders)
