"""A `makebreak.studies.Study` as the functions that the runner calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from makebreak.recipes import Recipe
from makebreak.report import write_study
from makebreak.store import Store
from makebreak.studies import Cell, Request, Results, Study, collect, missing_tasks, trainings
from makebreak.sweeps import Task


@dataclass(frozen=True)
class StudyFunctions:
    """Functions of a study (see `experiments.study.Study`)."""

    module: str
    """Module that has the study as `STUDY`."""
    study: Study
    """The study."""

    @property
    def PRESETS(self) -> Mapping[str, Any]:
        """Presets by name."""
        return self.study.presets

    def check_gates(self, preset: Any, world: str, store: Store) -> None:
        """Checks what must hold before the study is run."""
        for gate in self.study.gates:
            gate(preset, world, store)

    def trainings(self, preset: Any, world: str, seeds: tuple[int, ...]) -> list[Recipe]:
        """All trainings of a run."""
        return trainings(self.cells(preset, world, seeds))

    def cells(self, preset: Any, world: str, seeds: tuple[int, ...]) -> Sequence[Cell]:
        """All cells of a run."""
        return self.study.cells(preset, world, seeds)

    def compute(self, preset: Any, cell: Cell, store: Store) -> tuple[Mapping[str, Any], list[Path]]:
        """Computes a cell."""
        result = cell.compute(store)
        return result.tables, list(result.folders)

    def tasks(
        self, preset: Any, world: str, seeds: tuple[int, ...], store: Path, *, workers: int
    ) -> list[list[Task]]:
        """What the store lacks, as tasks for other processes."""
        model = preset.model if self.study.with_model else None
        return missing_tasks(Request(self.module, preset.name, world, seeds, model), store, workers)

    def run(self, preset: Any, world: str, seeds: tuple[int, ...], store: Store) -> Results:
        """Computes what the store lacks, and evaluates the claims."""
        return collect(self.study, self.cells(preset, world, seeds), store)

    def write_report(self, results: Results, preset: Any, world: str, out: Path) -> Path:
        """Writes the figures and the page of the study."""
        return write_study(self.study, results, preset, world, out)
