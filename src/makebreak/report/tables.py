"""Tables of a report, written as CSV files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from makebreak.output_folders import create_output_subfolder
from makebreak.store import write_atomic


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Writes each table atomically as NAME.csv.

    Args:
        tables: Tables by name.
        folder: The folder to write to; it is created if it does not exist.

    Raises:
        InvalidInput: If the folder is a symbolic link.
    """
    create_output_subfolder(folder)
    for name, table in tables.items():
        write_atomic(folder / f"{name}.csv", table.to_csv(index=False))
