"""Cells of the studies: their tasks, their tables and their rows in the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from experiments.study import collect_tables, stored_rows
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
