"""Reductions of the study's tables to one value per pretraining seed, which is what a claim is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pandas as pd

Values = dict[str, list[float | None]]
"""Values of claims by id, one per pretraining seed; None where undefined, an empty list if an arm was not
run."""


def values_by_claim(rows: list[dict[str, float]]) -> Values:
    """Transposes one dictionary per seed into one list per claim; undefined values become None."""
    return {claim: [_or_none(row[claim]) for row in rows] for claim in rows[0]}


def mean_of_methods(values: Mapping[str, float]) -> float:
    """Mean over alignment methods, which are equally weighted within a pretraining seed."""
    return sum(values.values()) / len(values)


def control_difference(values: pd.Series, control: str, method: str = "ssft") -> list[float | None]:
    """Difference between a method and a control that was trained from the same bases.

    Args:
        values: Values with the index (seed, arm).
        control: Arm that is subtracted.
        method: Arm that it is subtracted from.

    Returns:
        One difference per seed that has the control, in the order of seeds; None where undefined.
    """
    by_arm = cast("pd.DataFrame", values.unstack("arm"))
    if control not in by_arm:
        return []
    seeds = cast("pd.Series", values.xs(control, level="arm")).index
    differences = (by_arm[method] - by_arm[control])[seeds]
    return [_or_none(value) for value in differences.sort_index().tolist()]


def _or_none(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
