"""Rows of CSV files: the delimiter is that of the header, and a row is read whole or refused by its line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from makebreak.prompts.known_headers import has_known_name
from makebreak.prompts.tables import (
    MAX_CHARACTERS,
    Table,
    TableRow,
    check_columns_differ,
    strip_text,
)

MAX_CELL_LINES = 30
"""Largest number of lines of a quoted cell at least half of which look like rows."""
_DELIMITERS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
_REMEDY = "remove a stray quote, or give a prompt of several lines in a .jsonl file"


class _Row(NamedTuple):
    """A row as it stands."""

    line: int
    cells: list[str]
    lines: list[str]


def csv_table(name: str, text: str, *, delimiter: str | None = None) -> Table:
    """Reads the rows of a CSV file.

    Args:
        name: Name of the file in messages.
        text: What it holds.
        delimiter: The delimiter if the header has it; None for the only one of `, ; tab |` that the header
            has, or the one that gives a usual name of a column.

    Returns:
        The rows; empty ones are left out. Space around a cell is left out, also before a quote.

    Raises:
        ValueError: If the delimiter is ambiguous, or a row is not what it seems: a quote that is never closed
            or that swallows rows, more cells than columns, two columns of one name.
    """
    delimiter = _delimiter(name, text, delimiter)
    rows = list(_rows(name, text, delimiter))
    columns = [strip_text(cell) for cell in rows[0].cells] if rows else []
    check_columns_differ(f"{name}: line 1", columns)
    table, is_spaced = [], _is_spaced(rows, delimiter)
    for row in rows[1:]:
        cells = [strip_text(cell) for cell in row.cells]
        where = f"{name}: line {row.line}"
        if cells == columns:
            raise ValueError(f"{where} repeats the names of the columns: expected them in line 1 only")
        if any(cells[len(columns) :]):
            raise ValueError(
                f"{where} has {len(cells)} cells for {len(columns)} columns: put a cell with a delimiter in "
                "it between quotes"
            )
        if len(row.lines) > 1:
            _check_quoted_lines(where, row, columns, delimiter, is_spaced=is_spaced)
        if any(cells):
            table.append(TableRow(row.line, dict(zip(columns, cells, strict=False))))
    _check_rows_are_divided(name, rows, delimiter)
    return Table(name, [column for column in columns if column], table)


def _delimiter(name: str, text: str, default: str | None) -> str:
    """The delimiter of a file by its header; ValueError if there are several that it might be."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    outside = re.sub(r'"[^"]*"', "", header)
    candidates = [delimiter for delimiter in _DELIMITERS if delimiter in outside]
    if default in candidates or not candidates:
        return default or ","
    if len(candidates) > 1:
        likely = [d for d in candidates if has_known_name(_split(header, d))]
        candidates = likely if len(likely) == 1 else candidates
    if len(candidates) > 1:
        raise ValueError(
            f"{name}: line 1 may be divided by {' or by '.join(_DELIMITERS[d] for d in candidates)}: "
            "expected one of them, or names between quotes"
        )
    return candidates[0]


def _split(line: str, delimiter: str) -> list[str]:
    """Cells of one line; a quote need not be closed."""
    try:
        return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:  # a cell that is too long
        return []


def _rows(name: str, text: str, delimiter: str) -> Iterator[_Row]:
    """Every row that is not empty.

    Lines end only where the CSV format has them end: a Unicode line separator is part of a cell.
    """
    file_lines = list(io.StringIO(text, newline=""))
    consumed = 0  # lines before the present row
    reader = csv.reader(file_lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = f"a quote that is not closed by line {reader.line_num}"
            if "field larger" in str(error):
                reason = f"a cell of more than {MAX_CHARACTERS:,} characters, maybe by a stray quote"
            elif "expected after" in str(error):
                reason = (
                    f"a quoted cell that goes on behind its closing quote in line {reader.line_num}: remove "
                    "a stray quote, or write two quotes for one"
                )
            raise ValueError(f"{name}: line {consumed + 1} has {reason}") from None
        first, consumed = consumed + 1, reader.line_num
        if cells:
            yield _Row(first, cells, file_lines[first - 1 : consumed])


def _is_spaced(rows: Sequence[_Row], delimiter: str) -> bool:
    """Whether most rows of one line have a space behind their delimiters."""
    lines = [row.lines[0] for row in rows if len(row.lines) == 1 and delimiter in row.lines[0]]
    return 2 * sum(f"{delimiter} " in line for line in lines) > len(lines)


def _check_quoted_lines(
    where: str, row: _Row, columns: list[str], delimiter: str, *, is_spaced: bool
) -> None:
    """Raises ValueError if a cell of several lines looks like rows behind a stray quote."""
    n_lines = len(row.lines)
    if len(row.cells) < len(columns):
        raise ValueError(
            f"{where} begins a row of {n_lines} lines with {len(row.cells)} of {len(columns)} cells: "
            f"{_REMEDY}"
        )
    n_rows = sum(len(_split(line, delimiter)) == len(columns) for line in row.lines)
    if n_lines > MAX_CELL_LINES and 2 * n_rows >= n_lines:
        raise ValueError(f"{where} begins a row of {n_lines} lines: {_REMEDY}")
    by_line = [line.rstrip("\r\n").split(delimiter) for line in row.lines]
    # a comma of prose has a space behind it, unless the delimiters of this file have one as well
    if len(columns) > 1 and all(
        len(parts) == len(columns)
        and all(part.strip() and (is_spaced or part == part.lstrip()) for part in parts)
        for parts in by_line
    ):
        raise ValueError(
            f"{where} begins a quoted cell of {n_lines} lines, each of which looks like a row: {_REMEDY}"
        )


def _check_rows_are_divided(name: str, rows: Sequence[_Row], delimiter: str) -> None:
    """Raises ValueError if the header has a delimiter that no row has, and the rows have another."""
    body = rows[1:]
    if not body or len(rows[0].cells) == 1 or any(len(row.cells) > 1 for row in body):
        return
    others = [_DELIMITERS[d] for d in _DELIMITERS if d != delimiter and all(d in r.cells[0] for r in body)]
    if others:
        raise ValueError(
            f"{name}: line 1 is divided by {_DELIMITERS[delimiter]} and the rows by {' or '.join(others)}: "
            "expected one delimiter"
        )
