"""Runs any study: from its cells, trainings, tasks for other processes, merged tables and claims."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from makebreak.claims import NotRun, evaluate_claims
from makebreak.progress import track
from makebreak.recipes import Recipe, build
from makebreak.store import Store, is_cached
from makebreak.studies.cells import Cell
from makebreak.studies.study import Request, Results, Study
from makebreak.sweeps import Task
from makebreak.tables import Rows

_TASKS_PER_WORKER = 6
_Item = TypeVar("_Item")


def load_study(module: str) -> Study:
    """The study of a module, its attribute `STUDY`.

    Args:
        module: Name of the module.

    Returns:
        The study.

    Raises:
        ValueError: If the module has none.
    """
    study = getattr(importlib.import_module(module), "STUDY", None)
    if not isinstance(study, Study):
        raise ValueError(f"module {module} has no STUDY: expected an instance of makebreak.studies.Study")
    return study


def resolve(request: Request) -> tuple[Study, Any, Sequence[Cell]]:
    """Study, preset and cells of a request.

    Args:
        request: What is run.

    Returns:
        The study, the preset with the request's language model, and the cells.
    """
    study = load_study(request.module)
    preset = study.presets[request.preset]
    if request.model is not None:
        assert study.with_model is not None  # checked by the command line
        preset = study.with_model(preset, request.model)
    return study, preset, study.cells(preset, request.world, request.seeds)


def trainings(cells: Sequence[Cell]) -> list[Recipe]:
    """All trainings that cells need, each once, earlier stages first.

    Args:
        cells: The cells.

    Returns:
        Recipes of every stage of every model.
    """
    stages = [stage for cell in _with_needs(cells) for recipe in cell.recipes for stage in recipe.lineage]
    return sorted(dict.fromkeys(stages), key=lambda recipe: len(recipe.alignments))


def _with_needs(cells: Sequence[Cell]) -> list[Cell]:
    """Cells and those that they need, the latter first, each object once."""
    return list(dict.fromkeys(each for cell in cells for each in (*_with_needs(cell.needs), cell)))


def collect(study: Study, cells: Sequence[Cell], store: Store) -> Results:
    """Computes cells one after the other, joins their tables and evaluates the claims.

    Args:
        study: The study.
        cells: Its cells, in the order of the rows.
        store: Where models and tables are kept; what it has is not computed again.

    Returns:
        Tables, which begin with the columns of the cell, evaluated claims, and the folders used.
    """
    rows: dict[str, Rows] = {}
    folders: list[Path] = []
    for cell in track(list(cells), "cells"):
        result = cell.compute(store)
        folders += result.folders
        for name, table in result.tables.items():
            rows.setdefault(name, []).extend({**cell.columns, **row} for row in table)
    tables = {name: _with_numbers(pd.DataFrame(table)) for name, table in rows.items() if table}
    for name, derive in study.derived.items():
        with suppress(NotRun):
            tables[name] = derive(tables)
    return Results(tables, evaluate_claims(study.claims, tables), list(dict.fromkeys(folders)))


def _with_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """The table with numbers in columns that are undefined throughout, too."""
    undefined = table.columns[table.isna().all().to_numpy()]
    return table.astype(dict.fromkeys(undefined, float)).copy()


def missing_tasks(request: Request, store: Path, workers: int) -> list[list[Task]]:
    """What a store lacks, as tasks for other processes.

    First the trainings that several missing cells wait for, stage by stage; then the cells, those that others
    need first. A process takes seconds to start, so that it computes several cells where there are many.

    Args:
        request: What is run.
        store: Folder of the store.
        workers: Number of processes at a time.

    Returns:
        Waves of tasks; those of a wave do not wait for one another, except that training and measuring are
        one wave where more models are trained than there are workers.
    """
    _, _, cells = resolve(request)
    numbered = list(enumerate(_with_needs(cells)))
    missing = [(number, cell) for number, cell in numbered if not is_cached(store, cell.compute)]
    waves = _training_waves(request, trainings(cells), [cell for _, cell in missing], store, workers)
    n = len(waves)
    for depth in sorted({_depth(cell) for _, cell in missing}):
        wave = [(number, cell) for number, cell in missing if _depth(cell) == depth]
        waves.append(_cell_tasks(request, wave, store, workers))
    if n and len(waves[n - 1]) > workers:  # who is free measures, while others train
        waves[n - 1 : n + 1] = [waves[n - 1] + waves[n]]
    return waves


def _depth(cell: Cell) -> int:
    """Length of the longest chain of cells that a cell needs."""
    return max((1 + _depth(needed) for needed in cell.needs), default=0)


def _training_waves(
    request: Request, recipes: Sequence[Recipe], missing: Sequence[Cell], store: Path, workers: int
) -> list[list[Task]]:
    """Trainings that the store lacks and at least two missing cells need, by number of stages."""
    count = Counter(stage for cell in missing for stage in {s for r in cell.recipes for s in r.lineage})
    waves: dict[int, list[int]] = {}
    for number, recipe in enumerate(recipes):
        if count[recipe] > 1 and not is_cached(store, lambda s, recipe=recipe: build(recipe, s)):
            waves.setdefault(len(recipe.alignments), []).append(number)
    return [
        [
            Task(
                _joint_label([recipes[number].label() for number in part]),
                f"{__name__}:train_recipes",
                (_values(request), part, str(store)),
            )
            for part in _parts(waves[depth], workers)
        ]
        for depth in sorted(waves)
    ]


def _parts(items: Sequence[_Item], workers: int) -> list[list[_Item]]:
    """Items in tasks of equal numbers, some tasks for each worker."""
    size = math.ceil(len(items) / (_TASKS_PER_WORKER * workers))
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def _joint_label(labels: Sequence[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{labels[0]} and {len(labels) - 1} more"


def _cell_tasks(request: Request, cells: Sequence[tuple[int, Cell]], store: Path, workers: int) -> list[Task]:
    """Cells in tasks of equal numbers of cells."""
    tasks = []
    for part in _parts(cells, workers):
        labels = [" ".join(f"{n} {v}" for n, v in cell.columns.items() if v != "") for _, cell in part]
        arguments = (_values(request), [number for number, _ in part], str(store))
        tasks.append(Task(_joint_label(labels), f"{__name__}:compute_cells", arguments))
    return tasks


def _values(request: Request) -> dict[str, Any]:
    return {**request._asdict(), "seeds": list(request.seeds)}


def _request(values: Mapping[str, Any]) -> Request:
    return Request(**{**values, "seeds": tuple(values["seeds"])})


def train_recipes(request: Mapping[str, Any], numbers: Sequence[int], store: str) -> None:
    """Trains models that the store lacks; arguments are those of a `Task` of `missing_tasks`."""
    recipes = trainings(resolve(_request(request))[2])
    for number in numbers:
        build(recipes[number], Store(Path(store)))


def compute_cells(request: Mapping[str, Any], numbers: Sequence[int], store: str) -> None:
    """Computes cells into a store; arguments are those of a `Task` of `missing_tasks`."""
    cells = _with_needs(resolve(_request(request))[2])
    for number in numbers:
        cells[number].compute(Store(Path(store)))
