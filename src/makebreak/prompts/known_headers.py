"""Columns in which data sets keep prompts: a column is found by its name or named by the user, never guessed.

The headers of published data sets with several such columns are known as a whole.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from makebreak.prompts.tables import Table

CHAT_COLUMNS = ("messages", "conversations", "conversation")
"""Names under which data sets keep chats."""
PROMPT_COLUMNS = (
    "prompt",
    "goal",
    "behavior",
    "behaviour",
    "forbidden_prompt",
    "instruction",
    "question",
    "query",
    "request",
    "text",
    "harmful",
    *CHAT_COLUMNS,
)
"""Names under which data sets keep prompts, in any case; a file has one of them, or `--column` says which."""
CONTEXT_COLUMNS = ("context", "contextstring", "input", "system", "system_prompt")
"""Names under which data sets keep what belongs to a prompt besides its own column."""
_OTHER_NAMES = ("harmless", "borderline", "target", "answer", "label", "category", "id", "index")
_NAME = re.compile(r"\w+([-.]\w+)*")
_MAX_NAME = 40
_SHOWN = 12  # columns that an error shows
_HARMBENCH_SEPARATOR = "\n\n---\n\n"


class Labels(NamedTuple):
    """Column that says which rows are harmful."""

    column: str
    """Name of the column."""
    harmful: str
    """Regular expression of the labels of harmful rows."""
    harmless: str
    """Regular expression of those of harmless ones."""


class DataSet(NamedTuple):
    """Data set that is known by all names of its columns."""

    name: str
    """Name of the data set."""
    columns: str
    """Names of its columns, in lower case and divided by commas; their order in a file does not matter."""
    prompt: str
    """Column of the prompts."""
    labels: Labels | None = None
    """Which rows are harmful; None if all are."""


_XSTEST = Labels("label", "unsafe", "safe")
DATA_SETS = (
    DataSet("AdvBench", "goal,target", "goal"),
    DataSet("JailbreakBench", "index,goal,target,behavior,category,source", "goal"),
    DataSet("JailbreakBench", "index,goal,target,behavior,category", "goal"),
    DataSet(
        "HarmBench", "behavior,functionalcategory,semanticcategory,tags,contextstring,behaviorid", "behavior"
    ),
    DataSet("StrongREJECT", "category,source,forbidden_prompt", "forbidden_prompt"),
    DataSet("XSTest", "id,prompt,type,label", "prompt", _XSTEST),
    DataSet("XSTest", "id,prompt,type,label,focus,note", "prompt", _XSTEST),
    DataSet(
        "XSTest",
        "id_v1,id_v2,type,prompt,focus,note",
        "prompt",
        Labels("type", "contrast_.*", "(?!contrast_).+"),
    ),
)
"""Published data sets by the whole header of their file."""


class PromptColumns(NamedTuple):
    """Columns of a file that its prompts are read from."""

    prompt: str
    """Column of the prompts."""
    context: str | None
    """Column of HarmBench's contexts, which come before the prompts."""
    labels: Labels | None
    """Which rows are harmful; None if all are."""
    explicit: bool
    """Whether the user named the column of the prompts."""
    note: str
    """What was chosen, for one line to the user; empty if there was nothing to choose."""


def is_name(text: str) -> bool:
    """Whether a text can be the name of a column rather than a prompt: one short word."""
    return len(text) <= _MAX_NAME and _NAME.fullmatch(text) is not None


def has_known_name(columns: list[str]) -> bool:
    """Whether one of the names is usual for a column of a file of prompts."""
    return any(_key(name) in (*PROMPT_COLUMNS, *_OTHER_NAMES) for name in columns)


def choose_columns(table: Table, column: str | None) -> PromptColumns:
    """The columns of the prompts of a file.

    Args:
        table: The file.
        column: Name of the column of the prompts, in any case; None for that of a published data set, or the
            only one with a usual name, or the only one at all.

    Returns:
        The columns. The context and the labels of a published data set are used in either case.

    Raises:
        ValueError: If there are no rows, no such column, or several that may be meant.
    """
    table.check_rows()
    by_key = {_key(name): name for name in table.columns}
    data_set = next((d for d in DATA_SETS if sorted(by_key) == sorted(d.columns.split(","))), None)
    if column is not None:
        prompt, note = table.find_column(column), ""
    elif data_set is not None:
        prompt = by_key[data_set.prompt]
        note = f"the columns are those of {data_set.name}; its column {prompt!r} holds the prompts"
    else:
        prompt = _only_column(table)
        note = "" if _key(prompt) == "harmful" else f"column {prompt!r} holds the prompts"
        if table.is_plain:
            note = "one prompt a line"
    labels = None
    if data_set is not None and data_set.labels is not None and _key(prompt) == data_set.prompt:
        labels = data_set.labels._replace(column=by_key[data_set.labels.column])
    context = by_key.get("contextstring") if _key(prompt) in ("behavior", "behaviour") else None
    if context is not None and note:
        note += f", behind the context of {context!r} where there is one"
    return PromptColumns(prompt, context, labels, column is not None, note)


def join_context(context: str, prompt: str) -> str:
    """A behaviour of HarmBench behind its context, as HarmBench's direct requests have it."""
    return f"{context}{_HARMBENCH_SEPARATOR}{prompt}" if context else prompt


def check_nothing_unread(table: Table, columns: PromptColumns) -> None:
    """Raises ValueError if a row has a context that would be left out, unless the user named the column."""
    if columns.explicit:
        return
    others = [c for c in table.columns if _key(c) in CONTEXT_COLUMNS and c != columns.context]
    for row in table.rows:
        for name in others:
            if row.cells.get(name):
                raise ValueError(
                    f"{table.source}: line {row.line}, column {name!r} holds a part of the prompt that would "
                    f"be left out: join it to {columns.prompt!r}, or leave it out by --column "
                    f"{columns.prompt}"
                )


def _only_column(table: Table) -> str:
    """The only column that may hold prompts."""
    usual = [name for name in table.columns if _key(name) in PROMPT_COLUMNS]
    if len(usual) == 1:
        return usual[0]
    names = ", ".join(repr(name[:40]) for name in table.columns[:_SHOWN])
    names += ", …" if len(table.columns) > _SHOWN else ""
    if usual:
        raise ValueError(
            f"{table.source} has several columns that may hold the prompts, "
            f"{', '.join(map(repr, usual))} (of {names}): name one by --column"
        )
    if len(table.columns) == 1 and _key(table.columns[0]) not in (*_OTHER_NAMES, *CONTEXT_COLUMNS):
        [name] = table.columns
        if is_name(name):
            return name
        raise ValueError(
            f"{table.source}: line 1, {name[:40]!r}, is no name of a column: expected one, such as prompt, "
            "above the prompts; a file of prompts alone ends in .txt"
        )
    raise ValueError(
        f"{table.source} has no column with a usual name of prompts, only {names}: name it by --column, or "
        f"call it {', '.join(PROMPT_COLUMNS[:5])}, …"
    )


def _key(name: str) -> str:
    """A name of a column without regard to case, and with one kind of space."""
    return re.sub(r"[\s-]+", "_", name.strip()).casefold()
