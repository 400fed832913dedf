"""Selection of values by seed from the tables of a study, for the value functions of claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any, cast

import pandas as pd

from makebreak.claims.claim import NotRun, Tables, Value


def rows_of(tables: Tables, table: str, **where: Any) -> pd.DataFrame:
    """Rows of a table with given values of some columns.

    Args:
        tables: Tables of the study.
        table: Name of the table.
        **where: Value of a column, or a list, tuple or set of values that are accepted.

    Returns:
        The rows.

    Raises:
        NotRun: If there is no such table, or no such row.
    """
    if table not in tables:
        raise NotRun(f"this preset has no table {table!r}")
    rows = tables[table]
    for column, value in where.items():
        is_collection = isinstance(value, list | tuple | set | frozenset)
        rows = rows[rows[column].isin(list(value)) if is_collection else rows[column] == value]
        if rows.empty:
            raise NotRun(f"this preset has no rows of {table!r} with {column} {value}")
    return rows


def by_seed(tables: Tables, table: str, column: str, **where: Any) -> pd.Series:
    """Mean of a column by seed over the rows with given values of other columns.

    Args:
        tables: Tables of the study.
        table: Name of the table.
        column: Column of the mean.
        **where: See `rows_of`.

    Returns:
        Seed → mean.

    Raises:
        NotRun: If there is no such row.
    """
    return cast("pd.Series", rows_of(tables, table, **where).groupby("seed")[column].mean())


class _TablesOfSeed(Mapping[str, pd.DataFrame]):
    """Tables restricted to one seed; each is selected when it is read."""

    def __init__(self, tables: Tables, seed: Any) -> None:
        self._tables, self._seed = tables, seed

    def __getitem__(self, name: str) -> pd.DataFrame:
        table = self._tables[name]
        return table[table["seed"] == self._seed] if "seed" in table else table

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def __contains__(self, name: object) -> bool:
        return name in self._tables


def for_each_seed(function: Callable[[Tables], float | None]) -> Value:
    """Makes the value of a claim from a function of the tables of one seed.

    Args:
        function: Value on the tables of one seed, None where it is undefined.

    Returns:
        The value by seed. Seeds are those of any table; a table without a column `seed` is passed on whole.
    """

    @wraps(function)
    def value(tables: Tables) -> pd.Series:
        seeds: set[Any] = set()
        for table in tables.values():
            if "seed" in table:
                seeds.update(table["seed"].unique().tolist())
        return pd.Series({s: function(_TablesOfSeed(tables, s)) for s in sorted(seeds)}, dtype=float)

    return value
