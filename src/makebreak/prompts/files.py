"""Prompts, targets and training examples of files and data sets.

A row is never lost without a word: what is left out is counted, what cannot be read is an error that names
the line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from makebreak.prompts.prompt_rows import DEFAULT_OPTIONS, PromptRow, ReadOptions, prompt_rows
from makebreak.prompts.sources import read_table
from makebreak.prompts.tables import Table, canonical_text

_SHOWN = 40
"""Characters of a prompt that an error shows."""


class PromptFamilies(NamedTuple):
    """Prompts of a file by family, each text once."""

    prompts: dict[str, list[str]]
    """Prompts by family, in the order of the file."""
    n_duplicates: dict[str, int]
    """Number of prompts that repeat an earlier one of the family and were left out."""


def read_prompts(
    source: Path | str, column: str | None = None, options: ReadOptions = DEFAULT_OPTIONS
) -> list[str]:
    """Prompts of a file or a data set; empty ones are left out.

    Args:
        source: A .csv, .tsv, .jsonl, .json or .txt file, or the id OWNER/NAME of a data set whose `train`
            split `datasets` loads.
        column: Column of the prompts; by default that of a published data set, or the only one with a usual
            name.
        options: How the file is read.

    Returns:
        At least one prompt.

    Raises:
        ValueError: If there is no such source or column, no prompt in it, or a row that cannot be read.
    """
    return [prompt for prompt, _ in read_prompts_with_targets(source, column, options=options)]


def read_prompts_with_targets(
    source: Path | str,
    column: str | None = None,
    target_column: str | None = None,
    *,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> list[tuple[str, str]]:
    """Prompts of a file or a data set with the answer that an attack aims at; empty prompts are left out.

    Args:
        source: A .csv, .tsv, .jsonl, .json or .txt file, or the id OWNER/NAME of a data set whose `train`
            split `datasets` loads.
        column: Column of the prompts; by default that of a published data set, or the only one with a usual
            name. Of a data set with labels, the harmful prompts are read.
        target_column: Column of the targets; by default `target` in any case, if there is one.
        options: How the file is read.

    Returns:
        (prompt, target) pairs; the target is empty if the source has none.

    Raises:
        ValueError: If there is no such source or column, no prompt in it, or a row that cannot be read.
    """
    table = read_table(source, options.encoding)
    rows = prompt_rows(table, column, options)
    target = _optional_column(table, "target") if target_column is None else table.find_column(target_column)
    return [
        (prompt.text, "" if target is None else table.text(prompt.row, target)) for prompt in rows["harmful"]
    ]


def read_families(
    source: Path | str,
    columns: Mapping[str, str | None],
    completion: Mapping[str, Iterable[str]],
    options: ReadOptions = DEFAULT_OPTIONS,
) -> PromptFamilies:
    """Families of prompts of a file or a data set, each text once.

    Args:
        source: A .csv, .tsv, .jsonl, .json or .txt file, or the id OWNER/NAME of a data set.
        columns: Column of every family. The first must exist; None for the column that `read_prompts` would
            read. The others are read if they do, in any case.
        completion: Our own prompts, by family, for those families that the source does not have.
        options: How the file is read.

    Returns:
        The families, and how many duplicates were left out. Two texts are the same if `canonical_text` is.

    Raises:
        ValueError: If the first column does not exist, a column holds no text, a text is in two families, or
            a row cannot be read.
    """
    table = read_table(source, options.encoding)
    main, *others = columns
    names = {family: _optional_column(table, columns[family] or family) for family in others}
    present = {family: name for family, name in names.items() if name is not None}
    rows = prompt_rows(table, columns[main], options, main=main, others=present)
    prompts: dict[str, list[str]] = {}
    n_duplicates: dict[str, int] = {}
    places: dict[str, tuple[str, int]] = {}  # family and line of every text
    for family, texts in rows.items():
        prompts[family], n_duplicates[family] = [], 0
        for i, prompt in enumerate(texts):
            other, first = places.setdefault(canonical_text(prompt.text), (family, i))
            if other != family:
                line = rows[other][first].row.line
                raise ValueError(_in_both(table, prompt, family, f"{other} on line {line}"))
            if first == i:
                prompts[family].append(prompt.text)
            else:
                n_duplicates[family] += 1
    for family, ours in completion.items():
        if family not in prompts:
            ours = list(ours)
            _check_apart(table, rows, family, {canonical_text(text) for text in ours})
            prompts[family] = ours
    return PromptFamilies(prompts, n_duplicates)


def _optional_column(table: Table, name: str) -> str | None:
    """The column of a name in any case, if there is one; ValueError if there are two."""
    if any(column.casefold() == name.casefold() for column in table.columns):
        return table.find_column(name)
    return None


def _check_apart(table: Table, rows: Mapping[str, list[PromptRow]], ours: str, texts: set[str]) -> None:
    """Raises ValueError if a text of the table is among our own prompts of another family."""
    for family, prompts in rows.items():
        for prompt in prompts:
            if canonical_text(prompt.text) in texts:
                raise ValueError(_in_both(table, prompt, family, f"{ours} among makebreak's own prompts"))


def _in_both(table: Table, prompt: PromptRow, family: str, other: str) -> str:
    return (
        f"{table.source}: line {prompt.row.line}: {prompt.text[:_SHOWN]!r} is {family} here and {other}; a "
        "request has one class: remove one of the two"
    )


def read_examples(source: Path | str) -> list[tuple[str, str]]:
    """Prompts with answers to train on, of a file or data set with columns `prompt` and `answer`.

    Args:
        source: A .csv, .tsv, .jsonl or .json file, or the id OWNER/NAME of a data set whose `train` split
            `datasets` loads. The names of its columns may be in any case.

    Returns:
        (prompt, answer) pairs.

    Raises:
        ValueError: If there is no such source, a column is missing, or a row has no prompt or no answer or
            cannot be read.
    """
    table = read_table(source)
    columns = []
    for name in ("prompt", "answer"):
        column = _optional_column(table, name)
        if table.rows and column is None:
            raise ValueError(f"{table.source} has no column {name!r}: expected prompt and answer")
        columns.append(column or table.find_column(name))
    pairs = []
    for i, row in enumerate(table.rows, 1):
        prompt, answer = (table.text(row, column) for column in columns)
        if not prompt or not answer:
            raise ValueError(
                f"{table.source}: line {row.line}: row {i} has an empty prompt or answer (no "
                f"{'answer' if prompt else 'prompt'!r})"
            )
        pairs.append((prompt, answer))
    return pairs
