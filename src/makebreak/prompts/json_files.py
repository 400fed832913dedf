"""Rows of JSONL files, and of files with one JSON array of objects or of texts."""

from __future__ import annotations

import json
import re
from itertools import count
from typing import Any

from makebreak.prompts.tables import JsonObject, Table, TableRow, check_columns_differ, strip_text

_DECODER = json.JSONDecoder(object_pairs_hook=JsonObject)
_SPACE = re.compile(r"\s*")
TEXT_COLUMN = "prompt"
"""Column of the texts of a file that has no names of columns."""


def json_table(name: str, text: str) -> Table:
    """Reads the rows of a file with one object a line, or with one array.

    Args:
        name: Name of the file in messages.
        text: What it holds.

    Returns:
        The rows; of an array of texts, with the column `prompt`.

    Raises:
        ValueError: If a line or an item cannot be read, is no object, or has a key twice.
    """
    return _array_table(name, text) if text.lstrip().startswith("[") else _lines_table(name, text)


def _lines_table(name: str, text: str) -> Table:
    table, names = [], dict[str, None]()
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        content = strip_text(line)
        if not content:
            continue
        where = f"{name}: line {number}"
        try:
            pairs = json.loads(content, object_pairs_hook=JsonObject)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{where} is no JSONL ({_reason(error)}): expected one object a line, or an array of objects"
            ) from None
        if not isinstance(pairs, JsonObject):
            raise ValueError(f"{where}: expected one object a line, as {{'prompt': …}}")
        table.append(_row(where, number, pairs, names))
    return Table(name, list(names), table)


def _array_table(name: str, text: str) -> Table:
    table, names, line, counted = [], dict[str, None](), 1, 0
    position = text.index("[") + 1
    for number in count(1):
        position = _skip_space(text, position)
        if text[position : position + 1] == "]" and number == 1:
            break
        line, counted = line + text.count("\n", counted, position), position
        where = f"{name}: line {line}"
        item, position = _item(where, text, position)
        if isinstance(item, str):
            item = JsonObject([(TEXT_COLUMN, item)])
        if not isinstance(item, JsonObject):
            raise ValueError(
                f"{where}: item {number} of the array is {json.dumps(item)[:40]}: expected one object a "
                "line, or an array of objects or of texts"
            )
        table.append(_row(where, line, item, names))
        position = _skip_space(text, position)
        if text[position : position + 1] != ",":
            break
        position += 1
    if strip_text(text[position:]) != "]":
        line += text.count("\n", counted, position)
        following = text[position : position + 1]
        raise ValueError(
            f"{name}: line {line}: the array goes on with {following!r} or ends too early: expected one "
            "array of objects or of texts and nothing behind it"
        )
    return Table(name, list(names), table)


def _item(where: str, text: str, position: int) -> tuple[Any, int]:
    """The value at a position of an array, and the position behind it."""
    try:
        return _DECODER.raw_decode(text, position)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{where} is no JSON ({_reason(error)}): expected one array of objects or of texts, or one "
            "object a line"
        ) from None


def _row(where: str, line: int, pairs: JsonObject, names: dict[str, None]) -> TableRow:
    check_columns_differ(where, [key for key, _ in pairs])
    names.update(dict.fromkeys(key for key, _ in pairs))
    return TableRow(line, dict(pairs))


def _reason(error: Exception) -> str:
    return getattr(error, "msg", "") or "a value that cannot be read"


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return position if match is None else match.end()
