"""The study from the pretrained model to evaluated claims; every cell is cached, so that runs resume."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm

from experiments.real.claims import judge
from experiments.real.measures import MATRIX, USERS, Tables, cell_tables
from experiments.real.presets import BASE, PRESETS, Preset
from experiments.real.pretrained import model_source
from experiments.results import Results
from makebreak.configs import to_json
from makebreak.store import Store, is_cached, write_json
from makebreak.sweeps import Task

REVISION = 5
"""Part of the keys of stored cells; raised when the same preset would give other rows."""
_TABLES_FILE, _FOLDERS_FILE = "rows.json", "used.json"


class Cell(NamedTuple):
    """A piece of work that one process does."""

    kind: str
    """`base`, the name of an alignment, `users` or `matrix`."""
    seed: int
    """Alignment seed."""


def trainings(preset: Preset, world: str, seeds: tuple[int, ...]) -> list[tuple[str, str, int]]:
    """All fine-tuning runs of a study, each as its kind, name and seed; `world` is ignored."""
    runs = [("align", arm.name, seed) for seed in seeds for arm in preset.arms]
    runs += [("user", user.name, seed) for seed in seeds for user in preset.users]
    return runs + [("task", format_, seeds[0]) for format_ in preset.matrix_formats]


def cells(preset: Preset, seeds: tuple[int, ...]) -> list[Cell]:
    """Cells of a study, in an order in which each finds the models that it needs."""
    arms = [Cell(arm.name, seed) for seed in seeds for arm in preset.arms]
    users = [Cell(USERS, seed) for seed in seeds]
    return [Cell(BASE, seeds[0]), *arms, *users, Cell(MATRIX, seeds[0])]


def tasks(
    preset: Preset, world: str, seeds: tuple[int, ...], store: Path, *, workers: int
) -> list[list[Task]]:
    """Cells that the store lacks, as tasks for other processes.

    Args:
        preset: Sizes of the study.
        world: Ignored, since a preset has one.
        seeds: Alignment seeds.
        store: Folder of the store.
        workers: Ignored: all tasks of a wave can run at once.

    Returns:
        Three waves, each of which needs the models of the one before: the base, alignments, fine-tuning of
        the first alignment.
    """
    waves: list[list[Task]] = [[], [], []]
    for cell in cells(preset, seeds):
        if is_cached(store, partial(_compute, preset, cell)):
            continue
        label = f"seed {cell.seed} {cell.kind}"
        arguments = (preset.name, preset.model, cell.kind, cell.seed, str(store))
        waves[_wave(cell)].append(Task(label, f"{__name__}:compute_cell", arguments))
    return waves


def compute_cell(preset: str, model: str, kind: str, seed: int, store: str) -> None:
    """Computes one cell into the store; the function that a task calls.

    Args:
        preset: Name of the preset.
        model: The pretrained model, in place of the preset's.
        kind: Field of the `Cell`.
        seed: Field of the `Cell`.
        store: Folder of the store.
    """
    _compute(replace(PRESETS[preset], model=model), Cell(kind, seed), Store(Path(store)))


def run(preset: Preset, world: str, seeds: tuple[int, ...], store: Store) -> Results:
    """Computes what the store lacks, collects the tables and evaluates the claims.

    Args:
        preset: Sizes of the study.
        world: Ignored, since a preset has one.
        seeds: Alignment seeds.
        store: Cache of models and cells.

    Returns:
        Tables, evaluated claims, and the folders that they came from.
    """
    rows: Tables = {}
    folders: list[Path] = []
    for cell in tqdm(cells(preset, seeds), desc="cells", disable=not sys.stderr.isatty()):
        folder = _compute(preset, cell, store)
        used = json.loads((folder / _FOLDERS_FILE).read_text())
        folders += [*(store.root / name for name in used), folder]
        cell_rows: Tables = json.loads((folder / _TABLES_FILE).read_text())
        for name, table in cell_rows.items():
            labelled = [{"seed": cell.seed, "arm": cell.kind, **row} for row in table]
            rows.setdefault(name, []).extend(labelled)
    tables = {name: pd.DataFrame(table) for name, table in rows.items()}
    claims = judge(tables, [arm.name for arm in preset.arms], seeds)
    return Results(tables, claims, list(dict.fromkeys(folders)))


def _wave(cell: Cell) -> int:
    if cell.kind == BASE:
        return 0
    return 2 if cell.kind in (USERS, MATRIX) else 1


def _compute(preset: Preset, cell: Cell, store: Store) -> Path:
    """The folder of a cell's tables, and of the names of the folders that they came from."""

    def write(folder: Path) -> None:
        tables, used = cell_tables(preset, cell.kind, cell.seed, store)
        write_json(folder / _TABLES_FILE, tables)
        write_json(folder / _FOLDERS_FILE, [path.relative_to(store.root).as_posix() for path in used])

    config = {
        "preset": to_json(preset),
        "model": _model_identity(preset, store),
        "what": cell.kind,
        "seed": cell.seed,
    }
    return store.build("real", revision=REVISION, config=config, make=write)


def _model_identity(preset: Preset, store: Store) -> str:
    """SHA-256 of the files of the pretrained model; the name of a hub id."""
    path = Path(model_source(preset.model, store))
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors")) + sorted(path.glob("*.json"))
    if not path.exists() or not files:
        return str(path)
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
