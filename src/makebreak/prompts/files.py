"""Prompts, targets and training examples of files and data sets.

A row is never lost without a word: what is left out is counted, what cannot be read is an error that names
the line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from makebreak.prompts.tables import Table, TableRow, canonical_text, read_table

_PROMPT_COLUMNS = ("prompt", "goal", "instruction", "question", "request", "harmful", "text")
"""Names under which data sets keep prompts; the first that a file has is read."""
_SHOWN = 40
"""Characters of a prompt that an error shows."""


class PromptFamilies(NamedTuple):
    """Prompts of a file by family, each text once."""

    prompts: dict[str, list[str]]
    """Prompts by family, in the order of the file."""
    n_duplicates: dict[str, int]
    """Number of prompts that repeat an earlier one of the family and were left out."""


def read_prompts(source: Path | str, column: str | None = None) -> list[str]:
    """Prompts of a file or a data set; empty ones are left out.

    Args:
        source: A .csv, .tsv or .jsonl file, or the id OWNER/NAME of a data set whose `train` split `datasets`
            loads.
        column: Column of the prompts; by default the only one, or the first with a usual name.

    Returns:
        At least one prompt.

    Raises:
        ValueError: If there is no such source or column, no prompt in it, or a row that cannot be read.
    """
    return [prompt for prompt, _ in read_prompts_with_targets(source, column)]


def read_prompts_with_targets(
    source: Path | str, column: str | None = None, target_column: str | None = None
) -> list[tuple[str, str]]:
    """Prompts of a file or a data set with the answer that an attack aims at; empty prompts are left out.

    Args:
        source: A .csv, .tsv or .jsonl file, or the id OWNER/NAME of a data set whose `train` split `datasets`
            loads.
        column: Column of the prompts; by default the only one, or the first with a usual name.
        target_column: Column of the targets; by default `target`, if there is one.

    Returns:
        (prompt, target) pairs; the target is empty if the source has none.

    Raises:
        ValueError: If there is no such source or column, no prompt in it, or a row that cannot be read.
    """
    table = read_table(source)
    usual = [name for name in _PROMPT_COLUMNS if name in table.columns]
    prompt_column = column or next(iter(usual or table.columns), "prompt")
    for name in (prompt_column, target_column):
        if name is not None:
            table.check_column(name)
    _check_keys(table, [prompt_column])
    pairs = [
        (table.text(row, prompt_column), table.text(row, target_column or "target")) for row in table.rows
    ]
    pairs = [(prompt, target) for prompt, target in pairs if prompt]
    if not pairs:
        raise ValueError(f"{table.source}: column {prompt_column!r} holds no text in {len(table.rows)} rows")
    return pairs


def read_families(
    source: Path | str, columns: Mapping[str, str], completion: Mapping[str, Iterable[str]]
) -> PromptFamilies:
    """Families of prompts of a file or a data set, each text once.

    Args:
        source: A .csv, .tsv or .jsonl file, or the id OWNER/NAME of a data set.
        columns: Column of every family; the first must exist, the others are read if they do.
        completion: Our own prompts, by family, for those families that the source does not have.

    Returns:
        The families, and how many duplicates were left out. Two texts are the same if `canonical_text` is.

    Raises:
        ValueError: If the first column does not exist, a column holds no text, a text is in two families, or
            a row cannot be read.
    """
    table = read_table(source)
    table.check_column(next(iter(columns.values())))
    columns = {family: name for family, name in columns.items() if name in table.columns}
    _check_keys(table, list(columns.values()))
    prompts: dict[str, list[str]] = {}
    n_duplicates: dict[str, int] = {}
    places: dict[str, tuple[str, str]] = {}  # family and place of every text
    for family, column in columns.items():
        texts = [(row, text) for row in table.rows if (text := table.text(row, column))]
        if not texts:
            raise ValueError(
                f"{table.source}: column {column!r} holds no text in {len(table.rows)} rows: fill or drop it"
            )
        prompts[family], n_duplicates[family] = [], 0
        for row, text in texts:
            other, place = places.setdefault(canonical_text(text), (family, f"line {row.line}"))
            if other != family:
                raise ValueError(_in_both(table, row, text, family, f"{other} on {place}"))
            if place == f"line {row.line}":
                prompts[family].append(text)
            else:
                n_duplicates[family] += 1
    for family, ours in completion.items():
        if family not in prompts:
            _check_apart(table, columns, family, {canonical_text(text) for text in ours})
            prompts[family] = list(ours)
    return PromptFamilies(prompts, n_duplicates)


def _check_apart(table: Table, columns: Mapping[str, str], ours: str, texts: set[str]) -> None:
    """Raises ValueError if a text of the table is among our own prompts of another family."""
    for family, column in columns.items():
        for row in table.rows:
            text = table.text(row, column)
            if text and canonical_text(text) in texts:
                raise ValueError(_in_both(table, row, text, family, f"{ours} among makebreak's own prompts"))


def _in_both(table: Table, row: TableRow, text: str, family: str, other: str) -> str:
    return (
        f"{table.source}: line {row.line}: {text[:_SHOWN]!r} is {family} here and {other}; a request has one "
        "class: remove one of the two"
    )


def _check_keys(table: Table, columns: list[str]) -> None:
    """Raises ValueError if a row has none of the columns, as one with a misspelt key has not."""
    for row in table.rows:
        if not any(name in row.cells for name in columns):
            raise ValueError(
                f"{table.source}: line {row.line} has no {' or '.join(map(repr, columns))}, only "
                f"{', '.join(map(repr, row.cells)) or 'nothing'}"
            )


def read_examples(source: Path | str) -> list[tuple[str, str]]:
    """Prompts with answers to train on, of a file or data set with columns `prompt` and `answer`.

    Args:
        source: A .csv, .tsv or .jsonl file, or the id OWNER/NAME of a data set whose `train` split `datasets`
            loads.

    Returns:
        (prompt, answer) pairs.

    Raises:
        ValueError: If there is no such source, a column is missing, or a row has no prompt or no answer or
            cannot be read.
    """
    table = read_table(source)
    for name in ("prompt", "answer"):
        if table.rows and name not in table.columns:
            raise ValueError(f"{table.source} has no column {name!r}: expected prompt and answer")
        table.check_column(name)
    pairs = []
    for i, row in enumerate(table.rows, 1):
        pair = table.text(row, "prompt"), table.text(row, "answer")
        empty = [name for name, text in zip(("prompt", "answer"), pair, strict=True) if not text]
        if empty:
            raise ValueError(
                f"{table.source}: line {row.line}: row {i} has an empty prompt or answer (no {empty[0]!r})"
            )
        pairs.append(pair)
    return pairs
