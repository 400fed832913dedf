"""Rows of prompt files and data sets: every cell that is read as a prompt is text."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, NamedTuple

from makebreak.configs import nearest

MAX_CHARACTERS = 131_072
"""Largest number of characters of a cell: the limit of Python's csv module, for all kinds of files."""
_BYTE_ORDER_MARK = "\ufeff"
_NO_TEXT = re.compile(r"[\x00\ud800-\udfff]")
_AROUND = re.compile(rf"\A[\s{_BYTE_ORDER_MARK}\u200b\u2060]+|[\s{_BYTE_ORDER_MARK}\u200b\u2060]+\Z")
_SHOWN = 40  # characters of a cell that an error shows


class JsonObject(list[tuple[str, Any]]):
    """Keys and values of a JSON object as they stand, with repetitions."""


class TableRow(NamedTuple):
    """One row of a file of prompts."""

    line: int
    """Line of the file at which the row begins, from 1; of a data set, the number of the row."""
    cells: dict[str, Any]
    """Value by column; a column that the row does not have is missing."""


class Table(NamedTuple):
    """Rows of a file of prompts or of a data set."""

    source: str
    """Name of the file or of the data set."""
    columns: list[str]
    """Names of the columns, in the order of the file."""
    rows: list[TableRow]
    """Rows that are not empty."""
    is_plain: bool = False
    """Whether the rows are texts without names of columns, of a file that has none."""

    def check_rows(self) -> None:
        """Raises ValueError if there are no rows."""
        if not self.rows:
            raise ValueError(f"{self.source} has no rows: expected one request a row under a line of names")

    def find_column(self, name: str) -> str:
        """The column of a name.

        Args:
            name: Name of a column. Its case may differ from the file's, unless two columns differ in case.

        Returns:
            The name as the file has it.

        Raises:
            ValueError: If there are no rows, no such column, or two that differ from the name in case.
        """
        self.check_rows()
        if name in self.columns:
            return name
        matches = [column for column in self.columns if column.casefold() == name.casefold()]
        if len(matches) > 1:
            raise ValueError(
                f"{self.source} has the columns {', '.join(map(repr, matches))}: expected one {name!r}, "
                "whatever its case; rename or remove the others"
            )
        if not matches:
            raise ValueError(f"{self.source} has no column {name!r}; {nearest(name, self.columns)}")
        return matches[0]

    def place(self, row: TableRow, column: str) -> str:
        """File, line and column of a cell, for messages."""
        return f"{self.source}: line {row.line}, column {column!r}"

    def text(self, row: TableRow, column: str) -> str:
        """The text of a cell without surrounding space.

        Args:
            row: A row of the table.
            column: Name of the column.

        Returns:
            The text; empty if the row does not have the column.

        Raises:
            ValueError: If the cell holds anything but text.
        """
        return check_text(row.cells.get(column, ""), self.place(row, column))


def check_text(value: object, where: str) -> str:
    """A value as text without surrounding space.

    Args:
        value: A value of a file.
        where: Its place, for messages.

    Returns:
        The text.

    Raises:
        ValueError: If the value is anything but text.
    """
    if not isinstance(value, str):
        is_object = isinstance(value, JsonObject | dict)
        kind = "null" if value is None else "an object" if is_object else repr(value)[:_SHOWN]
        raise ValueError(f"{where} is {kind}: expected text")
    if len(value) > MAX_CHARACTERS:
        raise ValueError(f"{where} has {len(value):,} characters: expected at most {MAX_CHARACTERS:,}")
    match = _NO_TEXT.search(value)
    if match:
        kind = "a null byte" if match[0] == "\0" else f"an unpaired surrogate (U+{ord(match[0]):04X})"
        raise ValueError(f"{where} holds {kind}: expected text")
    return strip_text(value)


def strip_text(text: str) -> str:
    """The text without space and byte order marks around it."""
    return _AROUND.sub("", text)


def canonical_text(text: str) -> str:
    """The form by which two texts are the same; it is compared and never shown to a model.

    Characters are composed and in their usual width, invisible ones (zero-width spaces, soft hyphens, marks
    of direction) are left out, every white space is one space, and upper and lower case are the same: two
    copies of a request in different case are no two independent requests.
    """
    if not text.isascii():  # ASCII is composed and visible
        composed = unicodedata.normalize("NFKC", text)
        text = "".join(c for c in composed if unicodedata.category(c) != "Cf")
    return " ".join(text.split()).casefold()


def check_columns_differ(where: str, columns: list[str]) -> None:
    """Raises ValueError if two columns have one name."""
    repeated = sorted({name for name in columns if name and columns.count(name) > 1})
    if repeated:
        raise ValueError(f"{where} has two columns {repeated[0]!r}: rename or remove one")
