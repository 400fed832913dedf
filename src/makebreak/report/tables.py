"""How do tables get beside a page? As CSV files, each written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from makebreak.artifacts import write_atomic


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """A file NAME.csv for each, in a folder that is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        write_atomic(folder / f"{name}.csv", table.to_csv(index=False))
