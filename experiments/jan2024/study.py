"""The study from recipes to claims: trainings, independent tasks, tables and verdicts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from experiments.jan2024.claims import evaluate_claims
from experiments.jan2024.internals import internals_rows, probe_rows, width_rows
from experiments.jan2024.ngram_classifiers import ngram_classifier_rows
from experiments.jan2024.outcomes import after_tuning_rows, before_tuning_rows
from experiments.jan2024.templates import UNTUNED, template_rows, templated_recipe, tuned_templates
from experiments.recipes.formats import PRESETS, RETAIN, Preset
from experiments.results import Results
from makebreak.recipes import Recipe
from makebreak.store import Store, is_cached
from makebreak.sweeps import Task
from makebreak.tables import as_dict

Tables = dict[str, list[Any]]
"""Typed rows by table."""


def trainings(preset: Preset, world: str, seeds: tuple[int, ...]) -> set[Recipe]:
    """Every training of a run.

    Args:
        preset: The preset.
        world: Name of the world.
        seeds: Pretraining seeds.

    Returns:
        Recipes of all stages.
    """
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
    """Tasks whose results the store lacks, in two waves: aligned models, then fine-tunings of each format.

    Args:
        preset: The preset.
        world: Name of the world.
        seeds: Pretraining seeds.
        store: Folder of the store.
        workers: Number of processes; the tasks do not depend on it.

    Returns:
        Waves of tasks that do not depend on one another.
    """
    models, formats = list(product(preset.coverages, seeds)), (*preset.formats, RETAIN)
    waves = [
        [("measure_before_tuning", seed, coverage, "") for coverage, seed in models],
        [
            ("measure_after_tuning", seed, coverage, name)
            for name, (coverage, seed) in product(formats, models)
        ],
    ]
    if preset.templated:
        waves[0] += [("measure_templates", seed, "", UNTUNED) for seed in seeds]
        waves[1] += [
            ("measure_templates", seed, "", name) for seed, name in product(seeds, preset.templated.formats)
        ]
    return [
        [
            Task(
                f"{world} seed {seed} {coverage} {name}",
                f"{__name__}:{function}",
                (preset.name, world, seed, coverage, name, str(store)),
            )
            for function, seed, coverage, name in wave
            if not is_cached(store, partial(_STEPS[function], preset, world, seed, coverage, name))
        ]
        for wave in waves
    ]


def measure_before_tuning(preset: str, world: str, seed: int, coverage: str, name: str, store: str) -> None:
    """Trains and measures one aligned model; arguments are those of a `Task`."""
    _before_tuning(PRESETS[preset], world, seed, coverage, name, Store(Path(store)))


def measure_after_tuning(preset: str, world: str, seed: int, coverage: str, name: str, store: str) -> None:
    """Trains and measures all fine-tunings on one format; arguments are those of a `Task`."""
    _after_tuning(PRESETS[preset], world, seed, coverage, name, Store(Path(store)))


def measure_templates(preset: str, world: str, seed: int, coverage: str, name: str, store: str) -> None:
    """Trains and measures all templates of one tuned format; arguments are those of a `Task`."""
    _templates(PRESETS[preset], world, seed, coverage, name, Store(Path(store)))


def _templates(
    preset: Preset, world: str, seed: int, coverage: str, name: str, store: Store
) -> tuple[Tables, list[Path]]:
    """Table of templates of one tuned format, in the templated preset's own world and coverage."""
    assert preset.templated
    rows: list[Any] = []
    folders: list[Path] = []
    for task, template in tuned_templates(preset.templated):
        if task == name:
            model_rows, used = template_rows(preset.templated, seed, task, template, store)
            rows += model_rows
            folders += used
    return {"templates": rows}, folders


def _before_tuning(
    preset: Preset, world: str, seed: int, coverage: str, name: str, store: Store
) -> tuple[Tables, list[Path]]:
    """Tables of one aligned model and its base."""
    outcomes, folders = before_tuning_rows(preset, world, seed, coverage, store)
    widths, used = width_rows(preset, world, seed, coverage, store)
    tables: Tables = {"before_tuning": outcomes, "widths": widths}
    folders = [*folders, *used]
    if preset.all_kinds and coverage == preset.coverages[0]:
        tables["probes"], used = probe_rows(preset, world, seed, coverage, store)
        folders += used
    return tables, folders


def _after_tuning(
    preset: Preset, world: str, seed: int, coverage: str, name: str, store: Store
) -> tuple[Tables, list[Path]]:
    """Tables of all models that were tuned on one format."""
    tables: Tables = {"after_tuning": []}
    folders: list[Path] = []
    for tuning in preset.tunings(coverage):
        if tuning.format == name:
            rows, used = after_tuning_rows(preset, world, seed, coverage, tuning, store)
            tables["after_tuning"] += rows
            folders += used
    if name != RETAIN:
        tables["internals"], used = internals_rows(preset, world, seed, coverage, name, store)
        folders += used
    return tables, folders


_STEPS: dict[str, Callable[..., tuple[Tables, list[Path]]]] = {
    "measure_before_tuning": _before_tuning,
    "measure_after_tuning": _after_tuning,
    "measure_templates": _templates,
}


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
    steps: list[tuple[int, str, str, str]] = []
    for seed, coverage in product(seeds, preset.coverages):
        steps.append((seed, coverage, "measure_before_tuning", ""))
        steps += [(seed, coverage, "measure_after_tuning", name) for name in (*preset.formats, RETAIN)]
    if preset.templated:
        names = (UNTUNED, *preset.templated.formats)
        steps += [(seed, "", "measure_templates", name) for seed, name in product(seeds, names)]
    rows: dict[str, list[dict[str, Any]]] = {}
    folders: list[Path] = []

    def append(table: str, seed: int, new_rows: Iterable[Any]) -> None:
        rows.setdefault(table, []).extend({"seed": seed} | as_dict(row) for row in new_rows)

    for seed in seeds:
        classifier_rows, folder = ngram_classifier_rows(preset, world, seed, store)
        append("ngram_classifiers", seed, classifier_rows)
        folders.append(folder)
    for seed, coverage, function, name in tqdm(steps, desc="tasks", disable=not sys.stderr.isatty()):
        step_tables, used = _STEPS[function](preset, world, seed, coverage, name, store)
        folders += used
        for table, new_rows in step_tables.items():
            append(table, seed, new_rows)
    tables = {name: pd.DataFrame(table) for name, table in rows.items()}
    return Results(tables, evaluate_claims(tables), list(dict.fromkeys(folders)))
