"""Rates and accuracies of fine-tuning strategies, of which values of claims are made."""

from __future__ import annotations

import pandas as pd

from experiments.eiras2024.measures import TASK
from makebreak.claims import Tables, rows_of

EIRAS = "Eiras et al. 2024"
"""The paper that the study reproduces."""
RESTRUCTURED = ("aoa", "autoif", "autoif_aoa")
"""Strategies that restructure the benign data."""


def rows_without_defence(tables: Tables) -> pd.DataFrame:
    """Outcomes without a defence."""
    return rows_of(tables, "outcomes", defence="none")


def rate_of_strategy(tables: Tables, strategy: str, condition: str, outcome: str = "refuse") -> float:
    """Rate of an outcome on unsafe open requests of a strategy without a mitigation."""
    where = {"strategy": strategy, "mitigation": "none", "defence": "none", "condition": condition}
    rows = rows_of(tables, "outcomes", **where, format="gen", family="unsafe", operator="shown")
    return float(rows[outcome].iloc[0])


def accuracies(tables: Tables) -> pd.Series:
    """Accuracy on the user's task by strategy, without a mitigation."""
    rows = rows_of(tables, "outcomes", defence="none", condition=TASK, mitigation="none")
    return rows.set_index("strategy").comply


def least_accuracy(strategies: tuple[str, ...], tables: Tables) -> float:
    """Least accuracy on the user's task over strategies."""
    return float(accuracies(tables)[list(strategies)].min())
