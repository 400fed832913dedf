"""The study from the pretrained model to evaluated claims; every cell is cached, so that runs resume."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from experiments.real.claims import judge
from experiments.real.measures import MATRIX, USERS, cell_tables
from experiments.real.presets import BASE, Preset
from experiments.real.pretrained import model_source
from experiments.results import Results
from experiments.study import Tables, collect_tables, missing_tasks
from makebreak.configs import to_json
from makebreak.store import Store, write_json
from makebreak.sweeps import Task

REVISION = 8
"""Part of the keys of stored cells; raised when the same preset would give other rows."""
_TABLES_FILE, _FOLDERS_FILE = "rows.json", "used.json"


class Cell(NamedTuple):
    """A piece of work that one process does."""

    arm: str
    """`base`, the name of an alignment, `users` or `matrix`."""
    seed: int
    """Alignment seed."""
    model: str
    """The pretrained model."""

    @property
    def wave(self) -> int:
        """The base, then alignments, then fine-tuning of the first alignment."""
        if self.arm == BASE:
            return 0
        return 2 if self.arm in (USERS, MATRIX) else 1


def trainings(preset: Preset, world: str, seeds: tuple[int, ...]) -> list[tuple[str, str, int]]:
    """All fine-tuning runs of a study, each as its kind, name and seed."""
    runs = [("align", arm.name, seed) for seed in seeds for arm in preset.arms]
    runs += [("user", user.name, seed) for seed in seeds for user in preset.users]
    return runs + [("task", format_, seeds[0]) for format_ in preset.matrix_formats]


def cells(preset: Preset, world: str, seeds: tuple[int, ...]) -> list[Cell]:
    """Cells of a study, in an order in which each finds the models that it needs."""
    kinds = [(BASE, seeds[0]), *((arm.name, seed) for seed in seeds for arm in preset.arms)]
    kinds += [*((USERS, seed) for seed in seeds), (MATRIX, seeds[0])]
    return [Cell(*kind, preset.model) for kind in kinds]


def tasks(
    preset: Preset, world: str, seeds: tuple[int, ...], store: Path, *, workers: int
) -> list[list[Task]]:
    """Cells that the store lacks, in three waves: the base, alignments, fine-tuning of the first."""
    return missing_tasks(cells(preset, world, seeds), partial(compute, preset), store, __name__, preset.name)


def run(preset: Preset, world: str, seeds: tuple[int, ...], store: Store) -> Results:
    """Computes what the store lacks, and evaluates the claims (see `Study`)."""
    tables, folders = collect_tables(cells(preset, world, seeds), partial(compute, preset), store)
    return Results(tables, judge(tables, [arm.name for arm in preset.arms], seeds), folders)


def compute(preset: Preset, cell: Cell, store: Store) -> tuple[Tables, list[Path]]:
    """Tables of a cell, and the folders that they came from."""
    preset = replace(preset, model=cell.model)

    def write(folder: Path) -> None:
        tables, used = cell_tables(preset, cell.arm, cell.seed, store)
        write_json(folder / _TABLES_FILE, tables)
        write_json(folder / _FOLDERS_FILE, [path.relative_to(store.root).as_posix() for path in used])

    config = {
        "preset": to_json(preset),
        "model": _model_identity(preset, store),
        "what": cell.arm,
        "seed": cell.seed,
    }
    folder = store.build("real", revision=REVISION, config=config, make=write)
    used = json.loads((folder / _FOLDERS_FILE).read_text())
    return json.loads((folder / _TABLES_FILE).read_text()), [*(store.root / name for name in used), folder]


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
