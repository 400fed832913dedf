"""Summary of the score of a measure: its correlation with robustness, beside baselines and random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from makebreak.fragility.grid import BASELINES, orientation
from makebreak.fragility.score import NOISE
from makebreak.plots.fragility_names import outcome_name, predictor_name


def score_summary(table: pd.DataFrame, sign: int) -> list[str]:
    """For every column of a measure how often it is as claimed, and its correlation with every outcome.

    Args:
        table: Rows of `AssociationRow`, as `makebreak.fragility.score_measure` gives.
        sign: 1 if a larger value is claimed to mean more robust safety, -1 if more fragile, 0 for no claim.

    Returns:
        Lines.
    """
    names = [name for name in dict.fromkeys(table.predictor) if name not in (*BASELINES, NOISE)]
    return [line for name in names for line in ("", *_lines(table, str(name), sign))]


class _Interval(NamedTuple):
    """A correlation with an interval; NaN where undefined."""

    value: float
    """The correlation."""
    one: float
    """One end of the interval."""
    other: float
    """The other end."""

    @property
    def has_width(self) -> bool:
        """Whether there is an interval; equal values of all seeds have none."""
        return bool(abs(self.one - self.other) > 1e-9)

    @property
    def sign(self) -> int:
        """1 or -1 if the interval is on one side of zero, else 0."""
        if not self.has_width or self.one * self.other <= 0:
            return 0
        return 1 if self.value > 0 else -1

    def __str__(self) -> str:
        if self.value != self.value:  # NaN
            return "undefined"
        if not self.has_width:
            return f"{self.value:+.2f} [no interval]"
        low, high = sorted((self.one, self.other))
        return f"{self.value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _lines(table: pd.DataFrame, name: str, sign: int) -> list[str]:
    """One column of the measure: how often it is as claimed, and its correlation with every outcome."""
    others = [*(each for each in BASELINES if each in set(table.predictor)), NOISE]
    headings = [name, "given margin, norm", *map(predictor_name, others)]
    rows, signs = [["outcome", *headings]], []
    for outcome, part in table.groupby("outcome", sort=False):
        turn, by_name = orientation(str(outcome)), part.set_index("predictor")
        own = by_name.loc[name]
        correlation = _Interval(*(turn * own[key] for key in ("rank_correlation", "low", "high")))
        partial = _Interval(
            *(turn * own[key] for key in ("partial_correlation", "partial_low", "partial_high"))
        )
        baselines = [_number(turn * by_name.rank_correlation[each]) for each in others]
        rows.append([outcome_name(str(outcome)), str(correlation), str(partial), *baselines])
        signs.append(correlation.sign)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return [f"{name}: {_verdict(signs, sign)}", *aligned]


def _number(value: float) -> str:
    return "undefined" if value != value else f"{value:+.2f}"


def _verdict(signs: Sequence[int], claim: int) -> str:
    """Number of outcomes whose interval is on either side of zero."""
    n, chance = len(signs), "chance alone puts one interval in twenty off zero"
    above, below = signs.count(1), signs.count(-1)
    if not claim:
        text = f"no direction is claimed (--sign); the interval is above zero for {above} of {n} outcomes"
        return f"{text}, below for {below}; {chance}"
    meaning = "robust" if claim > 0 else "fragile"
    supported, contrary = signs.count(claim), signs.count(-claim)
    text = (
        f"claim: a larger value means more {meaning} safety; by intervals, as claimed for {supported} of {n}"
    )
    return f"{text} outcomes, against the claim for {contrary}, undecided for {signs.count(0)}; {chance}"
