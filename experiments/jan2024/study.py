"""Build, tune, measure, judge: the study from recipes to claims."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from experiments.jan2024.claims import judge
from experiments.jan2024.measure import aligned_rows, tuned_rows
from experiments.jan2024.presets import PRESETS, Preset, Tuning
from makebreak.artifacts import Store, made
from makebreak.recipes import Recipe
from makebreak.sweeps import Task


@dataclass(frozen=True)
class Results:
    """The study's tables, its claims, and the folders that everything came from."""

    tables: dict[str, pd.DataFrame]
    claims: list[dict[str, Any]]
    folders: list[Path]


def trainings(preset: Preset, world: str, seeds: tuple[int, ...]) -> set[Recipe]:
    """Every training that a run is made of."""
    recipes = [preset.aligned(world, seed, coverage) for seed, coverage in product(seeds, preset.coverages)]
    recipes += [preset.tuned(world, *of) for of in _tunings(preset, seeds)]
    return {stage for recipe in recipes for stage in recipe.lineage}


def _tunings(preset: Preset, seeds: tuple[int, ...]) -> Iterator[tuple[int, str, Tuning]]:
    for seed, coverage in product(seeds, preset.coverages):
        for tuning in preset.tunings(coverage):
            yield seed, coverage, tuning


def tasks(preset: Preset, world: str, seeds: tuple[int, ...], store: Path, *, workers: int) -> list[list[Task]]:
    """What the store lacks: every aligned model, then a task for all tunings of a format."""
    pairs = list(product(preset.coverages, seeds))
    formats = [*preset.formats, "retain"]
    waves = [
        [("aligned", seed, coverage, "") for coverage, seed in pairs],
        [("tuned", seed, coverage, name) for name, (coverage, seed) in product(formats, pairs)],
    ]
    return [
        [
            Task(f"{world} seed {seed} {coverage} {name}", f"experiments.jan2024.study:{how}", (*of, str(store)))
            for how, seed, coverage, name in wave
            for of in [(preset.name, world, seed, coverage, name)]
            if not made(store, partial(_HOW[how], preset, world, seed, coverage, name))
        ]
        for wave in waves
    ]


def aligned(preset: str, world: str, seed: int, coverage: str, name: str, store: str) -> None:
    _aligned(PRESETS[preset], world, seed, coverage, name, Store(Path(store)))


def tuned(preset: str, world: str, seed: int, coverage: str, name: str, store: str) -> None:
    _tuned(PRESETS[preset], world, seed, coverage, name, Store(Path(store)))


def _aligned(preset: Preset, world: str, seed: int, coverage: str, name: str, store: Store) -> None:
    aligned_rows(preset, world, seed, coverage, store)


def _tuned(preset: Preset, world: str, seed: int, coverage: str, name: str, store: Store) -> None:
    for tuning in preset.tunings(coverage):
        if tuning.format == name:
            tuned_rows(preset, world, seed, coverage, tuning, store)


_HOW = {"aligned": _aligned, "tuned": _tuned}


def run(preset: Preset, world: str, seeds: tuple[int, ...], store: Store) -> Results:
    """Everything that is not yet in the store, then the tables and the verdicts."""
    rows: dict[str, list[dict[str, Any]]] = {"aligned": [], "tuned": []}
    folders: list[Path] = []
    for seed, coverage in product(seeds, preset.coverages):
        found, used = aligned_rows(preset, world, seed, coverage, store)
        rows["aligned"] += [{"seed": seed, **row} for row in found]
        folders += used
    every = list(_tunings(preset, seeds))
    for seed, coverage, tuning in tqdm(every, desc="tunings", disable=not sys.stderr.isatty()):
        found, used = tuned_rows(preset, world, seed, coverage, tuning, store)
        rows["tuned"] += [{"seed": seed, **row} for row in found]
        folders += used
    tables = {name: pd.DataFrame(found) for name, found in rows.items()}
    return Results(tables, judge(tables), list(dict.fromkeys(folders)))
