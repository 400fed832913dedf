"""Tables as a page shows them: every value as text, in full."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

import pandas as pd

MISSING = "n/a"
"""Text of a value that is not defined."""
FOLD_CHARACTERS, FOLD_LINES = 280, 5
"""A text that is longer than either is folded: a reader opens it."""
_LONG = 40
"""Characters from which on a text gets a column of its own width, in which white space is kept."""
_SMALLEST = 5e-4
"""Numbers nearer to zero would be shown as zero with three decimals."""


class Text(NamedTuple):
    """A text, and how a page shows it."""

    text: str
    """The text in full."""
    kind: str = ""
    """Class of its cell: `number`, `long`, or nothing."""

    @property
    def start(self) -> str:
        """The beginning that is shown while the text is folded; empty for a text that is not folded."""
        lines = self.text.split("\n")
        if len(self.text) <= FOLD_CHARACTERS and len(lines) <= FOLD_LINES:
            return ""
        return "\n".join(lines[:FOLD_LINES])[:FOLD_CHARACTERS]


@dataclass(frozen=True)
class PageTable:
    """A table of texts."""

    columns: tuple[str, ...]
    """Names of the columns."""
    rows: tuple[tuple[Text, ...], ...]
    """Its rows, one text per column."""


def page_table(table: pd.DataFrame) -> PageTable:
    """A table as a page shows it.

    Args:
        table: The table; its index is left out.

    Returns:
        The same rows and columns; no value is shortened.
    """
    columns = [[page_value(value) for value in table.iloc[:, i]] for i in range(table.shape[1])]
    rows = tuple(zip(*columns, strict=True))
    return PageTable(tuple(map(str, table.columns)), rows)


def page_value(value: Any) -> Text:
    """A value as a page shows it: three decimals, `yes` or `no`, `n/a` for what is not defined.

    Args:
        value: A value of a table.

    Returns:
        Its text, and the class of its cell.
    """
    if isinstance(value, str):
        return Text(value, "long" if len(value) > _LONG or "\n" in value else "")
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return Text(MISSING)
    if isinstance(value, bool) or type(value).__name__ == "bool_":
        return Text("yes" if value else "no")
    if isinstance(value, Integral):
        return Text(str(value), "number")
    if isinstance(value, Real):
        number = float(value)
        return Text(f"{number:.2e}" if 0 < abs(number) < _SMALLEST else f"{number:.3f}", "number")
    return Text(str(value))
