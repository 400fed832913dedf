"""Conditions as a page words them; tables have the values that are stored."""

from __future__ import annotations

import pandas as pd

NO_INTERVENTION = "nothing"
"""Stored condition of a model without an intervention, `makebreak.lm.utility.UNCHANGED`."""


def condition_words(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose column `condition`, if there is one, says `no intervention` where there is none."""
    if "condition" not in table:
        return table
    words = ["no intervention" if value == NO_INTERVENTION else value for value in table["condition"]]
    return table.assign(condition=words)
