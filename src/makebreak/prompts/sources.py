"""Files of prompts of every format, and data sets of the Hugging Face Hub, as tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from makebreak.characters import escape_hidden
from makebreak.errors import name_errors, silence_loggers
from makebreak.optional_packages import import_optional
from makebreak.prompts.csv_files import csv_table
from makebreak.prompts.decoding import read_text
from makebreak.prompts.json_files import TEXT_COLUMN, json_table
from makebreak.prompts.known_headers import has_known_name, is_name
from makebreak.prompts.tables import Table, TableRow, strip_text

_CSV_DELIMITERS = {".csv": None, ".tsv": "\t"}
_JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_TEXT_SUFFIX = ".txt"
_EXPECTED = "expected a .csv, .tsv, .jsonl, .json or .txt file, or a data set's name OWNER/NAME"
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")
_OTHER_SUFFIXES = (".md", ".xlsx", ".xls", ".ods", ".parquet", ".yaml", ".yml", ".gz", ".zip", ".py")
_SUFFIXES = (*_CSV_DELIMITERS, *_JSON_SUFFIXES, _TEXT_SUFFIX)
_SHOWN_NAME = 200  # characters of the name of a file


def read_table(source: Path | str, encoding: str = "utf-8") -> Table:
    """Reads the rows of a file, or of the `train` split of a data set of the Hub.

    Args:
        source: A file that ends in .csv, .tsv, .jsonl, .json or .txt, in any case, or the id OWNER/NAME of a
            data set.
        encoding: Encoding of a file, as for `read_text`.

    Returns:
        The rows; empty ones are left out.

    Raises:
        ValueError: If there is no such source, or a row is not what it seems; the message names the line.
        OSError: If the file cannot be read.
    """
    path, name = Path(source), escape_hidden(str(source))
    name = name if len(name) <= _SHOWN_NAME else f"{name[:_SHOWN_NAME]}…"
    suffix = path.suffix.lower()
    with name_errors(name, "it cannot be looked up", _EXPECTED):  # a name that is too long, say
        path.exists()
    if path.is_file() and suffix in _SUFFIXES:
        text = read_text(path, name, encoding)
        if suffix in _CSV_DELIMITERS:
            return csv_table(name, text, delimiter=_CSV_DELIMITERS[suffix])
        return _text_table(name, text) if suffix == _TEXT_SUFFIX else json_table(name, text)
    if path.exists():
        kind = "a folder" if path.is_dir() else f"no file of the ending {suffix!r} that can be read"
        raise ValueError(f"{name} is {kind}: {_EXPECTED}")
    if not _is_hub_id(path):
        raise ValueError(f"{name} does not exist: {_EXPECTED}")
    return _hub_table(str(source))


def _text_table(name: str, text: str) -> Table:
    """One prompt a line; ValueError if the lines are those of another format."""
    lines = [(number, strip_text(line)) for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1)]
    lines = [(number, line) for number, line in lines if line]
    if lines:
        number, first = lines[0]
        parts = [part.strip('" ') for part in re.split(r"[,;\t|]", first)]
        if all(map(is_name, parts)) and has_known_name(parts):
            raise ValueError(
                f"{name}: line {number}, {first[:40]!r}, holds names of columns: a table ends in .csv or .tsv"
            )
        if re.match(r'\{\s*"|\[\s*["{]|\[$', first):
            raise ValueError(
                f"{name}: line {number}, {first[:40]!r}, is JSON: such a file ends in .jsonl or .json"
            )
    rows = [TableRow(number, {TEXT_COLUMN: line}) for number, line in lines]
    return Table(name, [TEXT_COLUMN], rows, is_plain=True)


def _is_hub_id(path: Path) -> bool:
    """Whether a source that does not exist as a file has the form OWNER/NAME of an id of the Hub.

    A name whose first part is a folder here, or that ends as a file does, is a path.
    """
    name = str(path)
    if not _HUB_ID.fullmatch(name) or ".." in name or "--" in name:
        return False
    return path.suffix.lower() not in (*_SUFFIXES, *_OTHER_SUFFIXES) and not path.parent.exists()


def _hub_table(name: str) -> Table:
    datasets = import_optional("datasets", f"{name} is no file, and a data set of the Hub")
    try:
        with silence_loggers("datasets", "huggingface_hub", "fsspec", "urllib3"):
            rows: list[dict[str, Any]] = datasets.load_dataset(name, split="train").to_list()  # type: ignore[union-attr]
    except Exception as error:  # of many kinds, by what the name turns out to be
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{name} is no data set within reach ({reason}): {_EXPECTED}") from None
    table = []
    for number, row in enumerate(rows, 1):
        # a data set has null where a row lacks a column
        table.append(TableRow(number, {key: value for key, value in row.items() if value is not None}))
    return Table(name, list(rows[0]) if rows else [], table)
