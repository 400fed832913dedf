"""Tables of a report, written as CSV files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from makebreak.output_record import create_output_subfolder
from makebreak.store import write_atomic


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Writes each table atomically as NAME.csv.

    Args:
        tables: Tables by name.
        folder: The folder to write to; it is created if it does not exist.

    Raises:
        InvalidInput: If the folder is a symbolic link, or a file is the user's (`makebreak.output_record`).
    """
    files = {f"{name}.csv": table for name, table in tables.items()}
    create_output_subfolder(folder, list(files))
    for name, table in files.items():
        write_atomic(folder / name, table.to_csv(index=False))
