"""Conversion of typed table rows into dictionaries, for JSON files and for further columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

Rows = list[dict[str, Any]]
"""A table whose columns depend on the data, one dictionary per row."""


def as_dict(row: Any) -> dict[str, Any]:
    """One row of a table as a dictionary from column to value.

    Args:
        row: A NamedTuple, a dataclass instance or a mapping.

    Returns:
        The row's fields in their order. A field of a NamedTuple that holds another NamedTuple is replaced by
        the fields of that one; other nested values are not converted.

    Raises:
        TypeError: If the row is none of these.
    """
    if isinstance(row, Mapping):
        return dict(row)
    if _is_named_tuple(row):
        columns: dict[str, Any] = {}
        for name, value in row._asdict().items():
            columns |= as_dict(value) if _is_named_tuple(value) else {name: value}
        return columns
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    raise TypeError(f"{type(row).__name__} is no row of a table: expected a NamedTuple, dataclass or mapping")


def as_dicts(rows: Iterable[Any]) -> Rows:
    """The rows of a table as dictionaries (see `as_dict` for the types that are accepted)."""
    return [as_dict(row) for row in rows]


def _is_named_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_asdict")
