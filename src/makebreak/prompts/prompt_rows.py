"""Prompts of a table by family: from columns, from labels, from chats, and behind their contexts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from makebreak.prompts.chats import is_chat, last_user_turn
from makebreak.prompts.known_headers import (
    Labels,
    PromptColumns,
    check_nothing_unread,
    choose_columns,
    join_context,
)
from makebreak.prompts.tables import Table, TableRow

_LABELS = frozenset(
    (
        "true",
        "false",
        "yes",
        "no",
        "safe",
        "unsafe",
        "harmful",
        "harmless",
        "benign",
        "malicious",
        "jailbreak",
    )
)


_LABEL_COLUMNS = ("label", "labels", "class", "type", "is_harmful", "is_safe", "unsafe", "safe", "toxic")


class ReadOptions(NamedTuple):
    """How a file of prompts is read."""

    encoding: str = "utf-8"
    """Encoding, as for `makebreak.prompts.decoding.read_text`."""
    turns: Literal["only", "last"] = "only"
    """What is taken of a chat: its only request, or the last one whatever comes before it."""
    log: Callable[[str], None] = lambda _: None
    """Called with a line about what was taken, if the file does not say so by itself."""


DEFAULT_OPTIONS = ReadOptions()
"""UTF-8, chats of one request, and nobody told."""


class PromptRow(NamedTuple):
    """A prompt with its row of the file."""

    text: str
    """The prompt."""
    row: TableRow
    """Its row."""


def prompt_rows(
    table: Table,
    column: str | None,
    options: ReadOptions,
    *,
    main: str = "harmful",
    others: Mapping[str, str] | None = None,
) -> dict[str, list[PromptRow]]:
    """Prompts of a table by family; empty ones are left out.

    Args:
        table: The table.
        column: Column of the main family, as for `choose_columns`.
        options: How chats are read, and who is told.
        main: Name of the family of that column.
        others: Columns of other families; None to leave out what is not of the main family.

    Returns:
        The main family and those of `others`; with labels, the harmless rows if there are others.

    Raises:
        ValueError: If a row cannot be read, has none of the columns or an unknown label, or a family is
            without text.
    """
    columns = choose_columns(table, column)
    check_nothing_unread(table, columns)
    _check_no_labels(table, columns)
    by_family = {main: columns.prompt} | dict(others or {})
    _check_keys(table, list(by_family.values()))
    notes = [columns.note] if columns.note else []
    families: dict[str, list[PromptRow]] = {}
    for family, name in by_family.items():
        context = columns.context if family == main else None
        n_chats = sum(is_chat(row.cells.get(name)) for row in table.rows)
        if n_chats:
            notes.append(f"the last request of each chat in {name!r} is its prompt (n = {n_chats})")
        families[family] = _prompts(table, name, context, options)
        if family != main or not columns.explicit:
            _check_plain(table, name, families[family])
    if columns.labels is not None:
        harmful, harmless = _by_label(table, columns.labels, families[main])
        families[main] = harmful
        notes.append(f"{len(harmful)} rows are harmful by {columns.labels.column!r}")
        if others is None:
            notes[-1] += f", {len(harmless)} harmless ones are left out"
        elif harmless and "harmless" not in families:
            families["harmless"] = harmless
            notes[-1] += f" and {len(harmless)} harmless"
    if notes:
        options.log(f"{table.source}: {'; '.join(notes)}")
    for family, prompts in families.items():
        if not prompts:
            raise ValueError(_no_text(table, by_family.get(family, columns.prompt), columns))
    return families


def _prompts(table: Table, column: str, context: str | None, options: ReadOptions) -> list[PromptRow]:
    """The prompts of one column."""
    prompts = []
    for row in table.rows:
        if is_chat(row.cells.get(column)):
            where = table.place(row, column)
            text = last_user_turn(row.cells[column], where, ignore_earlier=options.turns == "last")
        else:
            text = table.text(row, column)
        if text and context is not None and row.cells.get(context) is not None:
            text = join_context(table.text(row, context), text)
        if text:
            prompts.append(PromptRow(text, row))
    return prompts


def _by_label(
    table: Table, labels: Labels, prompts: Sequence[PromptRow]
) -> tuple[list[PromptRow], list[PromptRow]]:
    """Harmful and harmless prompts."""
    families: tuple[list[PromptRow], list[PromptRow]] = ([], [])
    for prompt in prompts:
        label = table.text(prompt.row, labels.column).casefold()
        matches = [bool(re.fullmatch(pattern, label)) for pattern in (labels.harmful, labels.harmless)]
        if not any(matches):
            raise ValueError(
                f"{table.place(prompt.row, labels.column)} is {label[:40]!r}: expected a label such as "
                "safe or unsafe"
            )
        families[matches.index(True)].append(prompt)
    return families


def _check_keys(table: Table, columns: list[str]) -> None:
    """Raises ValueError if a row has none of the columns, as one with a misspelt key has not."""
    for row in table.rows:
        if not any(name in row.cells for name in columns):
            raise ValueError(
                f"{table.source}: line {row.line} has no {' or '.join(map(repr, columns))}, only "
                f"{', '.join(map(repr, row.cells)) or 'nothing'}"
            )


def _check_no_labels(table: Table, columns: PromptColumns) -> None:
    """Raises ValueError if another column calls some rows harmful and others harmless, as XSTest's does."""
    if columns.explicit or columns.labels is not None:
        return
    for name in table.columns:
        if name == columns.prompt or name.casefold() not in _LABEL_COLUMNS:
            continue
        values = {str(row.cells[name]).casefold() for row in table.rows if name in row.cells} - {""}
        if len(values) > 1 and values <= _LABELS | {"0", "1"}:
            raise ValueError(
                f"{table.source}: column {name!r} divides the rows into {', '.join(sorted(values))}: put the "
                "prompts into the columns harmful and harmless, or read all of them as harmful by --column "
                f"{columns.prompt}"
            )


def _check_plain(table: Table, column: str, prompts: Sequence[PromptRow]) -> None:
    """Raises ValueError if a column that the user did not name holds numbers or labels."""
    if not prompts:
        return
    is_label = all(prompt.text.casefold() in _LABELS for prompt in prompts)
    if is_label or not any(c.isalpha() for prompt in prompts for c in prompt.text):
        raise ValueError(
            f"{table.source}: line {prompts[0].row.line}, column {column!r} is {prompts[0].text[:40]!r}, and "
            f"all rows hold {'labels' if is_label else 'numbers'} there: name the column of the prompts by "
            "--column"
        )


def _no_text(table: Table, column: str, columns: PromptColumns) -> str:
    """The error for a family without prompts."""
    if columns.labels is not None:
        return f"{table.source}: column {columns.labels.column!r} calls no row harmful: expected some"
    return f"{table.source}: column {column!r} holds no text in {len(table.rows)} rows: fill or drop it"
