"""Rows of prompt files and data sets: every cell is text, and a row is read whole or refused by its line."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from makebreak.characters import escape_hidden
from makebreak.configs import nearest
from makebreak.errors import name_errors, silence_loggers

MAX_CHARACTERS = 131_072
"""Largest number of characters of a cell: the limit of Python's csv module, for all kinds of files."""
MAX_CELL_LINES = 30
"""Largest number of lines of a quoted CSV cell: a longer one is a stray quote that swallows rows."""
MAX_BYTES = 2**30
"""Largest number of bytes of a file, which is read as a whole."""
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_SUFFIXES = (".jsonl", ".json")
_EXPECTED = "expected a .csv, .tsv or .jsonl file, or a data set's name OWNER/NAME"
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")
_FILE_SUFFIXES = (".txt", ".md", ".xlsx", ".xls", ".ods", ".parquet", ".yaml", ".yml", ".gz", ".zip", ".py")
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before that of UTF-16, which is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BYTE_ORDER_MARK = "\ufeff"
_NO_TEXT = re.compile(r"[\x00\ud800-\udfff]")
_AROUND = re.compile(r"\A[\s\ufeff\u200b\u2060]+|[\s\ufeff\u200b\u2060]+\Z")
_SHOWN = 40  # characters of a cell that an error shows
_SHOWN_NAME = 200  # and of the name of a file


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

    def check_column(self, name: str) -> None:
        """Raises ValueError unless there are rows and a column of this name."""
        if not self.rows:
            raise ValueError(f"{self.source} has no rows: expected one request a row under a line of names")
        if name not in self.columns:
            raise ValueError(f"{self.source} has no column {name!r}; {nearest(name, self.columns)}")

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
        value, where = row.cells.get(column, ""), f"{self.source}: line {row.line}, column {column!r}"
        if not isinstance(value, str):
            is_object = isinstance(value, _Pairs | dict)
            kind = "null" if value is None else "an object" if is_object else repr(value)[:_SHOWN]
            raise ValueError(f"{where} is {kind}: expected text")
        if len(value) > MAX_CHARACTERS:
            raise ValueError(f"{where} has {len(value):,} characters: expected at most {MAX_CHARACTERS:,}")
        match = _NO_TEXT.search(value)
        if match:
            kind = "a null byte" if match[0] == "\0" else f"an unpaired surrogate (U+{ord(match[0]):04X})"
            raise ValueError(f"{where} holds {kind}: expected text")
        return _strip(value)


def read_table(source: Path | str) -> Table:
    """Reads the rows of a file, or of the `train` split of a data set of the Hub.

    Args:
        source: A .csv, .tsv or .jsonl file in UTF-8 (or with a byte order mark), or the id OWNER/NAME of a
            data set.

    Returns:
        The rows; empty ones are left out.

    Raises:
        ValueError: If there is no such source, or a row is not what it seems: a quote that is never closed or
            that swallows rows, more cells than columns, two columns of one name, a line that is no JSON
            object. The message names the line.
        OSError: If the file cannot be read.
    """
    path, name = Path(source), escape_hidden(str(source))
    name = name if len(name) <= _SHOWN_NAME else f"{name[:_SHOWN_NAME]}…"
    suffix = path.suffix.lower()
    with name_errors(name, "it cannot be looked up", _EXPECTED):  # a name that is too long, say
        path.exists()
    if path.is_file() and suffix in _DELIMITERS:
        return _csv_table(name, _text(path, name), _DELIMITERS[suffix])
    if path.is_file() and suffix in _JSON_SUFFIXES:
        return _json_table(name, _text(path, name))
    if path.exists():
        kind = "a folder" if path.is_dir() else f"no file of the ending {suffix!r} that can be read"
        raise ValueError(f"{name} is {kind}: {_EXPECTED}")
    if not _is_hub_id(path):
        raise ValueError(f"{name} does not exist: {_EXPECTED}")
    return _hub_table(str(source))


def canonical_text(text: str) -> str:
    """The form by which two texts are the same; it is compared and never shown to a model.

    Characters are composed and in their usual width, invisible ones (zero-width spaces, soft hyphens, marks
    of direction) are left out, and every white space is one space. Upper and lower case differ.
    """
    composed = unicodedata.normalize("NFKC", text)
    return " ".join("".join(c for c in composed if unicodedata.category(c) != "Cf").split())


def _is_hub_id(path: Path) -> bool:
    """Whether a source that does not exist as a file has the form OWNER/NAME of an id of the Hub.

    A name whose first part is a folder here, or that ends as a file does, is a path.
    """
    name = str(path)
    if not _HUB_ID.fullmatch(name) or ".." in name or "--" in name:
        return False
    suffix = path.suffix.lower()
    is_file = suffix in _DELIMITERS or suffix in _JSON_SUFFIXES or suffix in _FILE_SUFFIXES
    return not is_file and not path.parent.exists()


def _text(path: Path, name: str) -> str:
    """The text of a file, by its byte order mark or in UTF-8."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{name} has {size:,} bytes: expected at most {MAX_BYTES:,}")
    content = path.read_bytes()
    encoding = next((code for mark, code in _BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding).removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{name}: line {line} is not {encoding.upper()}: save the file in UTF-8") from None


def _csv_table(name: str, text: str, delimiter: str) -> Table:
    rows = _csv_rows(name, text, delimiter)
    columns = [_strip(cell) for cell in next(rows, (0, [], []))[1]]
    _check_columns(f"{name}: line 1", columns)
    table = []
    for line, cells, lines in rows:
        stripped = [_strip(cell) for cell in cells]
        where = f"{name}: line {line}"
        if stripped == columns:
            raise ValueError(f"{where} repeats the names of the columns: expected them in line 1 only")
        if any(stripped[len(columns) :]):
            raise ValueError(
                f"{where} has {len(cells)} cells for {len(columns)} columns: put a cell with a delimiter in "
                "it between quotes"
            )
        if len(lines) > 1:
            _check_quoted_lines(where, cells, lines, columns, delimiter)
        if any(stripped):
            table.append(TableRow(line, dict(zip(columns, stripped, strict=False))))
    return Table(name, [column for column in columns if column], table)


def _csv_rows(name: str, text: str, delimiter: str) -> Iterator[tuple[int, list[str], list[str]]]:
    """First line, cells and lines of every row that is not empty.

    Lines end only where the CSV format has them end: a Unicode line separator is part of a cell.
    """
    file_lines = list(io.StringIO(text, newline=""))
    consumed = 0  # lines before the present row
    reader = csv.reader(file_lines, delimiter=delimiter, strict=True)
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
            yield first, cells, file_lines[first - 1 : consumed]


def _check_quoted_lines(
    where: str, cells: list[str], lines: list[str], columns: list[str], delimiter: str
) -> None:
    """Raises ValueError if a cell of several lines looks like rows behind a stray quote."""
    remedy = "remove a stray quote, or give a prompt of several lines in a .jsonl file"
    if len(lines) > MAX_CELL_LINES:
        raise ValueError(f"{where} begins a row of {len(lines)} lines: {remedy}")
    if len(cells) < len(columns):
        raise ValueError(
            f"{where} begins a row of {len(lines)} lines with {len(cells)} of {len(columns)} cells: {remedy}"
        )
    by_line = [line.rstrip("\r\n").split(delimiter) for line in lines]
    if len(columns) > 1 and all(
        len(parts) == len(columns) and all(part.strip() and part == part.lstrip() for part in parts)
        for parts in by_line
    ):
        raise ValueError(
            f"{where} begins a quoted cell of {len(lines)} lines, each of which looks like a row: {remedy}"
        )


def _check_columns(where: str, columns: Sequence[str]) -> None:
    """Raises ValueError if two columns have one name."""
    repeated = sorted({name for name in columns if name and columns.count(name) > 1})
    if repeated:
        raise ValueError(f"{where} has two columns {repeated[0]!r}: rename or remove one")


def _json_table(name: str, text: str) -> Table:
    table, names = [], dict[str, None]()
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        content = _strip(line)
        if not content:
            continue
        where = f"{name}: line {number}"
        try:
            pairs = json.loads(content, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "") or "a value that cannot be read"
            raise ValueError(f"{where} is no JSONL ({reason}): expected one object a line") from None
        if not isinstance(pairs, _Pairs):
            raise ValueError(f"{where}: expected one object a line, as {{'prompt': …}}")
        _check_columns(where, [key for key, _ in pairs])
        names.update(dict.fromkeys(key for key, _ in pairs))
        table.append(TableRow(number, dict(pairs)))
    return Table(name, list(names), table)


class _Pairs(list[tuple[str, Any]]):
    """Keys and values of a JSON object as they stand, with repetitions."""


def _hub_table(name: str) -> Table:
    from datasets import load_dataset

    try:
        with silence_loggers("datasets", "huggingface_hub", "fsspec", "urllib3"):
            rows: list[dict[str, Any]] = load_dataset(name, split="train").to_list()  # type: ignore[union-attr]
    except Exception as error:  # of many kinds, by what the name turns out to be
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{name} is no data set within reach ({reason}): {_EXPECTED}") from None
    table = []
    for number, row in enumerate(rows, 1):
        # a data set has null where a row lacks a column
        table.append(TableRow(number, {key: value for key, value in row.items() if value is not None}))
    return Table(name, list(rows[0]) if rows else [], table)


def _strip(text: str) -> str:
    """The text without space and byte order marks around it."""
    return _AROUND.sub("", text)
