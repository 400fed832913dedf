"""Rises under uniform coverage, of which values of claims are made."""

from __future__ import annotations

from typing import Any

import pandas as pd

from experiments.jan2024.transfer import transfer_matrix
from experiments.recipes.formats import RETAIN
from makebreak.claims import Tables, rows_of

JAN, EIRAS, LYU = "Jan et al. 2024", "Eiras et al. 2024", "Lyu et al. 2024"
UNCHANGED = 0.05
"""Rise up to which refusal counts as unchanged."""
MOST_HARMFUL, LEAST_HARMFUL = ("map", "struct"), ("sum", "label")
"""Formats of the tasks that hurt most (translation, code) and least (summaries, labels) in the paper."""
UNIFORM, SKEWED = "uniform", "skewed"


def under_uniform_coverage(tables: Tables, **where: Any) -> Tables:
    """Tables before and after fine-tuning under uniform coverage; `where` selects rows after it."""
    return {
        "before_tuning": rows_of(tables, "before_tuning", coverage=UNIFORM),
        "after_tuning": rows_of(tables, "after_tuning", coverage=UNIFORM, **where),
    }


def at_rate_of_safety_data(tables: Tables) -> Tables:
    """Tables of fine-tuning at the learning rate at which safety data are mixed in."""
    rate = rows_of(tables, "after_tuning", coverage=UNIFORM, kind="guarded").rate.iloc[0]
    return under_uniform_coverage(tables, rate=rate)


def rise_matrix(tables: Tables, kind: str = "task", **options: Any) -> pd.DataFrame:
    """Rise by tuned task (rows) and format of the requests (columns)."""
    return transfer_matrix(under_uniform_coverage(tables, kind=kind), kind=kind, **options)


def task_names(matrix: pd.DataFrame) -> list[str]:
    """Tuned tasks of a matrix, fine-tuning without a task left out."""
    return [str(name) for name in matrix.index if name != RETAIN]
