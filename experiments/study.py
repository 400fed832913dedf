"""Functions that a study's package has; cells of a study, their tables, and the tasks that compute them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pandas as pd

from experiments.results import Results
from makebreak.progress import track
from makebreak.store import Store, is_cached, write_json
from makebreak.sweeps import Task
from makebreak.tables import Rows, as_dict, as_dicts

Tables = dict[str, Sequence[Any]]
"""Rows by table: typed rows, or dictionaries."""
_ROWS = "rows.json"


class Study(Protocol):
    """Functions that the package of a study has."""

    @property
    def PRESETS(self) -> Mapping[str, Any]:
        """Presets by name; each has a `name`, `worlds` and `seeds`."""
        ...

    def check_gates(self, preset: Any, world: str, store: Store) -> None:
        """Checks what must hold before the study is run.

        Args:
            preset: Sizes of the study.
            world: Name of the world.
            store: Where the results of checks are kept.

        Raises:
            ValueError: If a check fails.
        """
        ...

    def trainings(self, preset: Any, world: str, seeds: tuple[int, ...]) -> Collection[Any]:
        """All trainings of a run.

        Args:
            preset: Sizes of the study.
            world: Name of the world; ignored by a study whose presets have one.
            seeds: The seeds.

        Returns:
            Every stage of every model; recipes, where models are pretrained.
        """
        ...

    def cells(self, preset: Any, world: str, seeds: tuple[int, ...]) -> Sequence[Any]:
        """All cells of a run.

        Args:
            preset: Sizes of the study.
            world: Name of the world; ignored by a study whose presets have one.
            seeds: The seeds.

        Returns:
            The cells, in an order in which each finds the models that it needs.
        """
        ...

    def compute(self, preset: Any, cell: Any, store: Store) -> tuple[Tables, list[Path]]:
        """Computes a cell; what the store has is not computed again.

        Args:
            preset: Sizes of the study.
            cell: The cell.
            store: Where models and measurements are kept.

        Returns:
            Tables of the cell, and the folders of the store that they came from.
        """
        ...

    def tasks(
        self, preset: Any, world: str, seeds: tuple[int, ...], store: Path, *, workers: int
    ) -> list[list[Task]]:
        """What the store lacks, as tasks for other processes.

        Args:
            preset: Sizes of the study.
            world: Name of the world; ignored by a study whose presets have one.
            seeds: The seeds.
            store: Folder of the store.
            workers: Number of processes that run at once.

        Returns:
            Waves of tasks; those of a wave do not depend on one another.
        """
        ...

    def run(self, preset: Any, world: str, seeds: tuple[int, ...], store: Store) -> Results:
        """Computes what the store lacks, collects the tables and evaluates the claims.

        Args:
            preset: Sizes of the study.
            world: Name of the world; ignored by a study whose presets have one.
            seeds: The seeds.
            store: Where models and measurements are kept.

        Returns:
            Tables, claims, and the folders that they came from.
        """
        ...

    def write_report(self, results: Results, preset: Any, world: str, out: Path) -> Path:
        """Writes the figures and the page of the study.

        Args:
            results: Tables and evaluated claims.
            preset: Sizes of the study.
            world: Name of the world.
            out: Folder of the results.

        Returns:
            Path of the page.
        """
        ...


class Cell(Protocol):
    """A piece of work that one process does: a NamedTuple of JSON values, one of them the seed."""

    @property
    def wave(self) -> int:
        """Number of the wave; a cell may need the models of those before its own."""
        ...

    def _asdict(self) -> dict[str, Any]: ...


AnyCell = TypeVar("AnyCell", bound=Cell)
Compute = Callable[[AnyCell, Store], tuple[Tables, list[Path]]]
"""Computes a cell: its tables, and the folders of the store that they came from."""


def missing_tasks(
    cells: Iterable[AnyCell], compute: Compute[AnyCell], store: Path, study: str, preset: str
) -> list[list[Task]]:
    """Cells that the store lacks, as tasks for other processes.

    Args:
        cells: All cells of a run.
        compute: Computes a cell in this process.
        store: Folder of the store.
        study: Module with the study's `Cell` and `compute`, in a package with its `PRESETS`.
        preset: Name of the preset.

    Returns:
        Tasks by wave.
    """
    waves: dict[int, list[Task]] = {}
    for cell in cells:
        wave = waves.setdefault(cell.wave, [])
        if not is_cached(store, partial(compute, cell)):
            values = cell._asdict()
            label = " ".join(f"{name} {value}" for name, value in values.items() if value != "")
            arguments = (study, preset, values, str(store))
            wave.append(Task(label, "experiments.study:compute_cell", arguments))
    return [waves[number] for number in sorted(waves)]


def compute_cell(study: str, preset: str, cell: dict[str, Any], store: str) -> None:
    """Computes a cell into the store; arguments are those of a `Task` of `missing_tasks`."""
    module, package = importlib.import_module(study), importlib.import_module(study.rpartition(".")[0])
    module.compute(package.PRESETS[preset], module.Cell(**cell), Store(Path(store)))


def collect_tables(
    cells: Iterable[AnyCell], compute: Compute[AnyCell], store: Store
) -> tuple[dict[str, pd.DataFrame], list[Path]]:
    """Computes cells one after the other and joins their tables.

    Args:
        cells: The cells, in the order of the rows.
        compute: Computes a cell; what the store has is not computed again.
        store: Where models and measurements are kept.

    Returns:
        Tables by name, which begin with the cell's `seed` and `arm`, and the folders that they came from.
    """
    rows: dict[str, Rows] = {}
    folders: list[Path] = []
    for cell in track(list(cells), "cells"):
        tables, used = compute(cell, store)
        values = cell._asdict()
        columns = {name: values[name] for name in ("seed", "arm") if name in values}
        folders += used
        for name, table in tables.items():
            rows.setdefault(name, []).extend(columns | as_dict(row) for row in table)
    return {name: pd.DataFrame(table) for name, table in rows.items()}, list(dict.fromkeys(folders))


def stored_rows(
    store: Store,
    stage: str,
    revision: int,
    config: dict[str, Any],
    make: Callable[[Path], Iterable[Any]],
    parents: Sequence[Path] = (),
) -> tuple[list[Any], Path]:
    """Rows of one step of a study, which are computed unless the store has them.

    Args:
        store: Where the rows are kept.
        stage: Name of the step.
        revision: Part of the key; raised when the same config would give other rows.
        config: What is computed.
        make: Computes the rows; it may write other files into the folder that it is given.
        parents: Results that the rows are computed from.

    Returns:
        The rows as dictionaries, as they are stored, and their folder.
    """

    def write(folder: Path) -> None:
        write_json(folder / _ROWS, as_dicts(make(folder)))

    folder = store.build(stage, revision=revision, config=config, parents=parents, make=write)
    return json.loads((folder / _ROWS).read_text()), folder
