"""Cells of a study: pieces of work from trained models to rows of tables, cached by the store."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from makebreak.configs import to_json
from makebreak.model_zoo import Measure, Measurement, identity, measure, other_seed
from makebreak.recipes import Recipe, build, checkpoints
from makebreak.revisions import revision_of
from makebreak.store import Store, write_atomic
from makebreak.tables import Rows, as_dicts

_TABLES_FILE = "tables.json"
_FILES = rf"{re.escape(_TABLES_FILE)}|[^/]+\.jsonl"


class CellTables(NamedTuple):
    """Result of a cell."""

    tables: Mapping[str, Rows]
    """Rows by table."""
    folders: tuple[Path, ...]
    """Folders of the store that they came from."""


@runtime_checkable
class Cell(Protocol):
    """A piece of work that one process does; the store keeps its result."""

    @property
    def columns(self) -> Mapping[str, Any]:
        """Columns that the rows of all its tables begin with; one of them is `seed`."""
        ...

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """Models that it is computed from."""
        ...

    @property
    def needs(self) -> tuple[Cell, ...]:
        """Other cells whose tables it is computed from."""
        ...

    def compute(self, store: Store) -> CellTables:
        """Tables of the cell; what the store has is not computed again.

        Args:
            store: Where models and tables are kept.

        Returns:
            The tables, without `columns`, and the folders that they came from.
        """
        ...


class Inputs(NamedTuple):
    """What the function of a `TableCell` is given."""

    models: tuple[Path, ...]
    """Folders of the cell's recipes, in their order."""
    tables: tuple[Mapping[str, Rows], ...]
    """Tables of the cells that it needs, in their order."""
    settings: Any
    """The cell's settings."""
    folder: Path
    """Folder of the result, for files NAME.jsonl from which an interrupted computation resumes."""
    store: Store
    """The store, for a computation with results of its own in it."""


TableFunction = Callable[[Inputs], Mapping[str, Iterable[Any]]]
"""Computes tables of typed rows; a module-level function decorated with `cache_revision`."""


@dataclass(frozen=True, eq=False)
class TableCell:
    """A cell whose tables a function computes from the folders of models."""

    stage: str
    """Name of the computation, part of the key."""
    function: TableFunction
    """The function; its revision is part of the key."""
    columns: Mapping[str, Any]
    """See `Cell`."""
    settings: Any
    """All else that decides the rows, and part of the key: a frozen config or a mapping of JSON values."""
    recipes: tuple[Recipe, ...] = ()
    """See `Cell`."""
    needs: tuple[Cell, ...] = ()
    """See `Cell`."""

    def compute(self, store: Store) -> CellTables:
        """See `Cell`."""
        models = tuple(build(recipe, store) for recipe in self.recipes)
        needed = [cell.compute(store) for cell in self.needs]
        used = [*models, *(folder for result in needed for folder in result.folders)]
        parents = list(dict.fromkeys(used))

        def write(folder: Path) -> None:
            tables = tuple(result.tables for result in needed)
            rows = self.function(Inputs(models, tables, self.settings, folder, store))
            content = {name: as_dicts(table) for name, table in rows.items()}
            text = json.dumps(content, allow_nan=False)  # not sorted: columns keep their order
            write_atomic(folder / _TABLES_FILE, text + "\n")

        is_mapping = isinstance(self.settings, Mapping)
        config = dict(self.settings) if is_mapping else to_json(self.settings)
        revision = revision_of(self.function)
        folder = store.build(
            self.stage, revision=revision, config=config, parents=parents, make=write, files=_FILES
        )
        return CellTables(json.loads((folder / _TABLES_FILE).read_text()), (*parents, folder))


@dataclass(frozen=True, eq=False)
class MeasureCell:
    """A cell that takes measures of a model and of the kept steps of all its training stages.

    Table `zoo` has one row per kept step, with `at`, the number of steps since the base; the other tables are
    those of the final measures.
    """

    columns: Mapping[str, Any]
    """See `Cell`."""
    recipe: Recipe
    """The model."""
    final_measures: tuple[Measure, ...]
    """Measures of the finished model."""
    step_measures: tuple[Measure, ...] = ()
    """Measures of all other kept steps; with none, only the finished model is measured."""
    extra_step_measures: tuple[Measure, ...] | None = None
    """Measures of steps that are kept beside the evenly spaced ones; None for `step_measures`."""
    needs: tuple[Cell, ...] = field(default=(), init=False)
    """See `Cell`."""

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The model and its earlier stages; where steps are measured also the base of another seed."""
        if not self.step_measures:
            return self.recipe.lineage
        return (*self.recipe.lineage, replace(self.recipe.base, seed=other_seed(self.recipe.seed)))

    def compute(self, store: Store) -> CellTables:
        """See `Cell`."""
        folders: list[Path] = [build(recipe, store) for recipe in self.recipes]
        tables: dict[str, Rows] = {}
        if self.step_measures:
            tables["zoo"] = []
            folders += self._measure_steps(store, tables)
        else:
            results = measure(store, self.recipe, *self.final_measures)
            _add_tables(tables, results)
            folders += [folder for _, folder in results]
        return CellTables(tables, tuple(dict.fromkeys(folders)))

    def _measure_steps(self, store: Store, tables: dict[str, Rows]) -> list[Path]:
        """Adds rows of all kept steps and of the final tables, and returns the folders of measures."""
        folders: list[Path] = []
        base = build(self.recipe.base, store)
        steps_before, parent = 0, None if self.recipe == self.recipe.base else base.name
        for stage in self.recipe.lineage[1:] or (self.recipe,):
            model = build(stage, store)
            columns = {"key": model.name, "parent": parent} | identity(stage)
            steps = list(checkpoints(model))
            for step in steps:
                is_final = stage == self.recipe and step == max(steps)
                measures = self.final_measures if is_final else self._measures_of_step(stage, step)
                results = measure(store, stage, *measures, step=step)
                row: dict[str, Any] = columns | {"step": step, "at": steps_before + step}
                for measurement, folder in results:
                    folders.append(folder)
                    row |= measurement.columns
                tables["zoo"].append(row)
                if is_final:
                    _add_tables(tables, results)
            steps_before, parent = steps_before + max(steps), model.name
        return folders

    def _measures_of_step(self, stage: Recipe, step: int) -> tuple[Measure, ...]:
        """Measures of a kept step that is not the model's last one."""
        if self.extra_step_measures is None:
            return self.step_measures
        optimisation = stage.alignments[-1].optimisation if stage.alignments else stage.optimisation
        evenly_spaced = replace(optimisation, extra_checkpoints=()).checkpoint_steps
        is_extra = step not in {*evenly_spaced, optimisation.steps}
        return self.extra_step_measures if is_extra else self.step_measures


def _add_tables(tables: dict[str, Rows], results: Sequence[tuple[Measurement, Path]]) -> None:
    """Adds the rows of measurements to tables."""
    for measurement, _ in results:
        for name, rows in measurement.tables.items():
            tables.setdefault(name, []).extend(rows)
