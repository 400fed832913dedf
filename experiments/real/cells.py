"""Cells of the study: the model before alignment, every aligned model, and fine-tuning of the first one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.pretrained import model_identity
from experiments.real.measures import MATRIX, USERS, cell_tables
from experiments.real.presets import BASE, Preset
from makebreak.configs import to_json
from makebreak.recipes import Recipe
from makebreak.store import Store, write_json
from makebreak.studies import Cell, CellTables

REVISION = 8
"""Part of the keys of stored cells; raised when the same preset would give other rows."""
_TABLES_FILE, _FOLDERS_FILE = "rows.json", "used.json"


@dataclass(frozen=True, eq=False)
class LanguageModelCell:
    """A cell whose models are fine-tuned from a pretrained language model as its tables are computed."""

    preset: Preset
    """Sizes of the study, with the language model."""
    kind: str
    """`base`, the name of an alignment, `users` or `matrix`."""
    seed: int
    """Alignment seed."""
    needs: tuple[Cell, ...] = ()
    """Cells that leave models and answers in the store which this one uses."""
    recipes: tuple[Recipe, ...] = field(default=(), init=False)
    """None: no recipe makes a pretrained model."""

    @property
    def columns(self) -> Mapping[str, Any]:
        """See `makebreak.studies.Cell`."""
        return {"seed": self.seed, "arm": self.kind}

    def compute(self, store: Store) -> CellTables:
        """See `makebreak.studies.Cell`."""

        def write(folder: Path) -> None:
            tables, used = cell_tables(self.preset, self.kind, self.seed, store)
            write_json(folder / _TABLES_FILE, tables)
            write_json(folder / _FOLDERS_FILE, [path.relative_to(store.root).as_posix() for path in used])

        config = {
            "preset": to_json(self.preset),
            "model": model_identity(self.preset.model),
            "what": self.kind,
            "seed": self.seed,
        }
        files = "|".join(map(re.escape, (_TABLES_FILE, _FOLDERS_FILE)))
        folder = store.build("real", revision=REVISION, config=config, make=write, files=files)
        used = [store.root / name for name in json.loads((folder / _FOLDERS_FILE).read_text())]
        return CellTables(json.loads((folder / _TABLES_FILE).read_text()), (*used, folder))


def cells(preset: Preset, world: str, seeds: tuple[int, ...]) -> Sequence[Cell]:
    """Cells of a run.

    Args:
        preset: Sizes of the study.
        world: Name of the world; the presets have one.
        seeds: Alignment seeds; the base and the matrix are measured once, at the first.

    Returns:
        The base, every alignment, then users and the matrix.
    """
    base = LanguageModelCell(preset, BASE, seeds[0])
    aligned = {
        (arm.name, seed): LanguageModelCell(preset, arm.name, seed, (base,))
        for seed in seeds
        for arm in preset.arms
    }
    first = preset.arms[0].name
    users = [LanguageModelCell(preset, USERS, seed, (aligned[first, seed],)) for seed in seeds]
    return [base, *aligned.values(), *users, LanguageModelCell(preset, MATRIX, seeds[0], users[0].needs)]
