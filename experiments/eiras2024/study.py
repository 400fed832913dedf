"""Build, tune, measure, judge: the study from recipes to claims."""

from __future__ import annotations

import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from experiments.eiras2024.claims import judge
from experiments.eiras2024.measure import relearning_rows, starts, tuned_rows
from experiments.eiras2024.presets import PRESETS, UNTUNED, Preset
from experiments.results import Results
from makebreak.artifacts import Store, made
from makebreak.recipes import Recipe
from makebreak.sweeps import Task

Tables = dict[str, list[dict[str, Any]]]
_TUNED, _RELEARNT = "tuned", "relearnt"


def trainings(preset: Preset, world: str, seeds: tuple[int, ...]) -> set[Recipe]:
    """Every training that a run is made of."""
    recipes = [preset.tuned(seed, of) for seed in seeds for of in preset.all_tuned()]
    recipes += [
        preset.relearning_of(start, rate)
        for seed in seeds
        for start, rate in product(starts(preset, seed).values(), preset.relearning_rates)
    ]
    return {stage for recipe in recipes for stage in recipe.lineage}


def _units(preset: Preset) -> list[tuple[str, str, str]]:
    """What is one task: (what, strategy or start, mitigation)."""
    pairs = dict.fromkeys((of.strategy, of.mitigation) for of in preset.all_tuned())
    return [(_TUNED, *pair) for pair in pairs] + [(_RELEARNT, start, "") for start in starts(preset, 0)]


def tasks(
    preset: Preset, world: str, seeds: tuple[int, ...], store: Path, *, workers: int
) -> list[list[Task]]:
    """What the store lacks: the aligned models, what is tuned on them, what is then taught harm."""
    waves: list[list[Task]] = [[], [], []]
    for unit, seed in product(_units(preset), seeds):
        what, name, mitigation = unit
        if not made(store, partial(_unit, preset, seed, unit)):
            task = Task(
                f"seed {seed} {what} {name} {mitigation}",
                f"{__name__}:unit",
                (preset.name, seed, *unit, str(store)),
            )
            waves[2 if what == _RELEARNT else 0 if name == UNTUNED else 1].append(task)
    return waves


def unit(preset: str, seed: int, what: str, name: str, mitigation: str, store: str) -> None:
    _unit(PRESETS[preset], seed, (what, name, mitigation), Store(Path(store)))


def _unit(preset: Preset, seed: int, unit: tuple[str, str, str], store: Store) -> tuple[Tables, list[Path]]:
    what, name, mitigation = unit
    if what == _RELEARNT:
        rows, folders = relearning_rows(preset, seed, name, store)
        return {what: rows}, folders
    rows, folders = [], []
    for of in preset.all_tuned():
        if (of.strategy, of.mitigation) == (name, mitigation):
            found, used = tuned_rows(preset, seed, of, store)
            rows += found
            folders += used
    return {what: rows}, folders


def run(preset: Preset, world: str, seeds: tuple[int, ...], store: Store) -> Results:
    """Everything that is not yet in the store, then the tables and the verdicts."""
    rows: Tables = {}
    folders: list[Path] = []
    every = list(product(seeds, _units(preset)))
    for seed, of in tqdm(every, desc="tasks", disable=not sys.stderr.isatty()):
        found, used = _unit(preset, seed, of, store)
        folders += used
        for table, own in found.items():
            rows.setdefault(table, []).extend({"seed": seed, **row} for row in own)
    tables = {name: pd.DataFrame(found) for name, found in rows.items()}
    return Results(tables, judge(tables), list(dict.fromkeys(folders)))
