"""Cells of the studies: their tasks, their tables and their rows in the store."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from experiments.study import collect_tables, compute_cell, stored_rows
from makebreak.store import Store


class Cell(NamedTuple):
    seed: int
    name: str

    @property
    def wave(self) -> int:
        return 0


class Row(NamedTuple):
    name: str
    value: float


def test_tables_begin_with_the_seed(tmp_path: Path) -> None:
    """Rows of all cells in their order, and each folder once."""
    tables, folders = collect_tables(
        [Cell(0, "a"), Cell(1, "b")],
        lambda cell, store: ({"values": [Row(cell.name, 0.5)]}, [store.root]),
        Store(tmp_path),
    )
    assert tables["values"].to_dict("list") == {"seed": [0, 1], "name": ["a", "b"], "value": [0.5, 0.5]}
    assert folders == [tmp_path]


def test_rows_are_made_once(tmp_path: Path) -> None:
    """And again where the config is another one."""
    store, made = Store(tmp_path), []

    def rows(n: int) -> list[dict[str, Any]]:
        return stored_rows(store, "step", 1, {"n": n}, lambda folder: made.append(n) or [Row("a", n)])[0]

    assert rows(1) == rows(1) == [{"name": "a", "value": 1}]
    assert rows(2) == [{"name": "a", "value": 2}]
    assert made == [1, 2]


@pytest.mark.parametrize("study", ["real"])
def test_task_computes_its_cell_in_another_process(study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task of a cell, read back from JSON, calls the study's `compute` with the same preset and cell."""
    package = importlib.import_module(f"experiments.{study}")
    module = importlib.import_module(f"experiments.{study}.study")
    calls: list[tuple[Any, Any]] = []
    monkeypatch.setattr("experiments.study.is_cached", lambda root, compute: False)
    monkeypatch.setattr(module, "compute", lambda preset, cell, store: calls.append((preset, cell)))
    preset = package.PRESETS["smoke"]
    waves = package.tasks(preset, preset.worlds[0], (0,), Path("store"), workers=1)
    task = waves[-1][-1]
    assert task.function == "experiments.study:compute_cell"
    compute_cell(*json.loads(json.dumps(task.arguments)))
    [(called, cell)] = calls
    assert called == preset
    assert cell.seed == 0
    assert cell.wave == len(waves) - 1
