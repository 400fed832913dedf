"""Make safe, tune, measure, judge: each unit of work is kept, so that a run goes on where it was."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from experiments.real.claims import judge
from experiments.real.measure import Tables, rows_of, source
from experiments.real.presets import BASE, PRESETS, Preset
from experiments.results import Results
from makebreak.artifacts import Store, made, write_json
from makebreak.configs import to_json
from makebreak.sweeps import Task

REVISION = 3  # of what is measured: raise it when the same preset would give other rows
Unit = tuple[str, int]


def trainings(preset: Preset, world: str, seeds: tuple[int, ...]) -> list[tuple[str, str, int]]:
    """Every training that a run is made of."""
    found = [("align", arm.name, seed) for seed in seeds for arm in preset.arms]
    found += [("user", user.name, seed) for seed in seeds for user in preset.users]
    return found + [("task", format_, seeds[0]) for format_ in preset.matrix]


def units(preset: Preset, seeds: tuple[int, ...]) -> list[Unit]:
    """What is one piece of work; the first makes what the others need."""
    arms = [(arm.name, seed) for seed in seeds for arm in preset.arms]
    return [(BASE, seeds[0]), *arms, *(("users", seed) for seed in seeds), ("matrix", seeds[0])]


def tasks(
    preset: Preset, world: str, seeds: tuple[int, ...], store: Path, *, workers: int
) -> list[list[Task]]:
    """What the store lacks: the base, the aligned models, what is tuned on the first of them."""
    waves: list[list[Task]] = [[], [], []]
    for what, seed in units(preset, seeds):
        if not made(store, partial(_unit, preset, what, seed)):
            wave = 0 if what == BASE else 2 if what in ("users", "matrix") else 1
            arguments = (preset.name, preset.model, what, seed, str(store))
            waves[wave].append(Task(f"seed {seed} {what}", f"{__name__}:unit", arguments))
    return waves


def unit(preset: str, model: str, what: str, seed: int, store: str) -> None:
    _unit(replace(PRESETS[preset], model=model), what, seed, Store(Path(store)))


def _unit(preset: Preset, what: str, seed: int, store: Store) -> Path:
    """The folder of a unit's rows, and of the names of the folders they came from."""

    def make(folder: Path) -> None:
        tables, used = rows_of(preset, what, seed, store)
        write_json(folder / "rows.json", tables)
        write_json(folder / "used.json", [path.relative_to(store.root).as_posix() for path in used])

    config = {"preset": to_json(preset), "model": _identity(preset, store), "what": what, "seed": seed}
    return store.build("real", revision=REVISION, config=config, make=make)


def _identity(preset: Preset, store: Store) -> str:
    """A hash of the files of the model; a hub id is its own."""
    path = Path(source(preset, store))
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors")) + sorted(path.glob("*.json"))
    if not path.exists() or not files:
        return str(path)
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.read_bytes())
    return whole.hexdigest()


def run(preset: Preset, world: str, seeds: tuple[int, ...], store: Store) -> Results:
    """Everything that is not yet in the store, then the tables and the verdicts."""
    rows: Tables = {}
    folders: list[Path] = []
    every = units(preset, seeds)
    for what, seed in tqdm(every, desc="units", disable=not sys.stderr.isatty()):
        folder = _unit(preset, what, seed, store)
        folders += [store.root / name for name in json.loads((folder / "used.json").read_text())] + [folder]
        found: dict[str, list[dict[str, Any]]] = json.loads((folder / "rows.json").read_text())
        for table, own in found.items():
            rows.setdefault(table, []).extend({"seed": seed, "arm": what, **row} for row in own)
    tables = {name: pd.DataFrame(own) for name, own in rows.items()}
    claims = judge(tables, [arm.name for arm in preset.arms], seeds)
    return Results(tables, claims, list(dict.fromkeys(folders)))
