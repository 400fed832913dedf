"""What is a claim judged by? A number per seed."""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

Values = dict[str, list[float | None]]


def by_claim(rows: list[dict[str, float]]) -> Values:
    """One row per seed → one list per claim; undefined values are None."""
    return {claim: [None if pd.isna(row[claim]) else float(row[claim]) for row in rows] for claim in rows[0]}


def mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)


def beyond(values: pd.Series, twin: str, run: str = "ssft") -> list[float | None]:
    """Run minus twin on every seed that has the twin; values: by (seed, arm)."""
    by_arm = values.unstack("arm")
    if twin not in by_arm:
        return []
    differences = (by_arm[run] - by_arm[twin])[values.xs(twin, level="arm").index]
    return [None if pd.isna(d) else float(d) for d in differences.sort_index().tolist()]
