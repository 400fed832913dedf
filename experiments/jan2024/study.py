"""Build, tune, measure, judge: the study from recipes to claims."""

from __future__ import annotations

import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from experiments.jan2024.claims import judge
from experiments.jan2024.inside import guard_table, inside_rows, width_rows
from experiments.jan2024.measure import aligned_rows, tuned_rows
from experiments.jan2024.presets import PRESETS, RETAIN, Preset
from experiments.jan2024.readers import reader_rows
from experiments.jan2024.templates import UNTUNED, pairs, template_rows, tuned_in
from experiments.results import Results
from makebreak.artifacts import Store, made
from makebreak.recipes import Recipe
from makebreak.sweeps import Task


def trainings(preset: Preset, world: str, seeds: tuple[int, ...]) -> set[Recipe]:
    """Every training that a run is made of."""
    recipes = [
        preset.tuned(world, seed, coverage, tuning)
        for seed, coverage in product(seeds, preset.coverages)
        for tuning in preset.tunings(coverage)
    ]
    if preset.templated:
        recipes += [
            tuned_in(preset.templated, seed, *pair) for seed, pair in product(seeds, pairs(preset.templated))
        ]
    return {stage for recipe in recipes for stage in recipe.lineage}


def tasks(
    preset: Preset, world: str, seeds: tuple[int, ...], store: Path, *, workers: int
) -> list[list[Task]]:
    """What the store lacks: every aligned model, then a task for all tunings of a format."""
    of, formats = list(product(preset.coverages, seeds)), [*preset.formats, RETAIN]
    waves = [
        [("aligned", seed, coverage, "") for coverage, seed in of],
        [("tuned", seed, coverage, name) for name, (coverage, seed) in product(formats, of)],
    ]
    if preset.templated:
        waves[0] += [("templated", seed, "", UNTUNED) for seed in seeds]
        waves[1] += [("templated", seed, "", name) for seed, name in product(seeds, preset.templated.formats)]
    return [
        [
            Task(
                f"{world} seed {seed} {coverage} {name}",
                f"experiments.jan2024.study:{how}",
                (*of, str(store)),
            )
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


def templated(preset: str, world: str, seed: int, coverage: str, name: str, store: str) -> None:
    _templated(PRESETS[preset], world, seed, coverage, name, Store(Path(store)))


Tables = dict[str, list[dict[str, Any]]]


def _templated(
    preset: Preset, world: str, seed: int, coverage: str, name: str, store: Store
) -> tuple[Tables, list[Path]]:
    """In the templated preset's own world and coverage."""
    assert preset.templated
    rows: list[dict[str, Any]] = []
    folders: list[Path] = []
    for tuned, template in pairs(preset.templated):
        if tuned == name:
            found, used = template_rows(preset.templated, seed, tuned, template, store)
            rows += found
            folders += used
    return {"templates": rows}, folders


def _aligned(
    preset: Preset, world: str, seed: int, coverage: str, name: str, store: Store
) -> tuple[Tables, list[Path]]:
    rows, folders = aligned_rows(preset, world, seed, coverage, store)
    found: Tables = {"aligned": rows}
    found["widths"], used = width_rows(preset, world, seed, coverage, store)
    if preset.guards and coverage == preset.coverages[0]:
        found["guards"], read = guard_table(preset, world, seed, coverage, store)
        used += read
    return found, [*folders, *used]


def _tuned(
    preset: Preset, world: str, seed: int, coverage: str, name: str, store: Store
) -> tuple[Tables, list[Path]]:
    found: Tables = {"tuned": []}
    folders = []
    for tuning in preset.tunings(coverage):
        if tuning.format == name:
            rows, used = tuned_rows(preset, world, seed, coverage, tuning, store)
            found["tuned"] += rows
            folders += used
    if name != RETAIN:
        found["inside"], used = inside_rows(preset, world, seed, coverage, name, store)
        folders += used
    return found, folders


_HOW = {"aligned": _aligned, "tuned": _tuned, "templated": _templated}


def run(preset: Preset, world: str, seeds: tuple[int, ...], store: Store) -> Results:
    """Everything that is not yet in the store, then the tables and the verdicts."""
    rows: Tables = {}
    folders: list[Path] = []
    every = [
        (seed, coverage, how, name)
        for seed, coverage in product(seeds, preset.coverages)
        for how, name in [(_aligned, ""), *((_tuned, name) for name in (*preset.formats, RETAIN))]
    ]
    if preset.templated:
        names = (UNTUNED, *preset.templated.formats)
        every += [(seed, "", _templated, name) for seed, name in product(seeds, names)]
    for seed in seeds:
        found, read = reader_rows(preset, world, seed, store)
        rows.setdefault("readers", []).extend({"seed": seed, **row} for row in found)
        folders.append(read)
    for seed, coverage, how, name in tqdm(every, desc="tasks", disable=not sys.stderr.isatty()):
        found, used = how(preset, world, seed, coverage, name, store)
        folders += used
        for table, own in found.items():
            rows.setdefault(table, []).extend({"seed": seed, **row} for row in own)
    tables = {name: pd.DataFrame(found) for name, found in rows.items()}
    return Results(tables, judge(tables), list(dict.fromkeys(folders)))
