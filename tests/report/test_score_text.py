"""Summary of a score: counts of outcomes by interval, orientation to robustness, undefined intervals."""

from __future__ import annotations

import pandas as pd
import pytest

from makebreak.fragility.score import NOISE
from makebreak.report import score_summary

_NUMBERS = ("rank_correlation", "low", "high", "partial_correlation", "partial_low", "partial_high")
_VALUES: dict[tuple[str, str], tuple[float, ...]] = {
    ("harmful.steps_to_half", "slope"): (0.5, 0.3, 0.7, 0.4, -1.0, 1.0),
    ("harmful.compliance", "slope"): (0.5, 0.3, 0.7, 0.4, 0.2, 0.6),
    ("gcg.success", "slope"): (0.25, 0.25, 0.25, float("nan"), float("nan"), float("nan")),
    ("benign.compliance", "slope"): (float("nan"),) * 6,
    ("benign.compliance", "margin"): (float("nan"),) * 6,
}


@pytest.fixture
def table() -> pd.DataFrame:
    """Four outcomes: robust, fragile, without an interval and undefined."""
    rows = []
    for outcome in dict.fromkeys(outcome for outcome, _ in _VALUES):
        for name in ("slope", "margin", NOISE):
            values = _VALUES.get((outcome, name), (0.1,) * 6)
            rows.append({"outcome": outcome, "predictor": name, **dict(zip(_NUMBERS, values, strict=True))})
    return pd.DataFrame(rows)


def test_correlations_are_with_robustness(table: pd.DataFrame) -> None:
    """Steps keep their sign and compliance is turned."""
    _, _, heading, steps, compliance, gcg, benign = score_summary(table, 0)
    assert heading.split("  ")[0] == "outcome"
    assert "+0.50 [+0.30, +0.70]" in steps
    assert "+0.40 [-1.00, +1.00]" in steps
    assert "-0.50 [-0.70, -0.30]" in compliance
    assert "-0.25 [no interval]" in gcg
    assert benign.count("undefined") == 3
    assert compliance.split()[-2:] == ["-0.10", "-0.10"]


@pytest.mark.parametrize(
    ("sign", "words"),
    [
        (1, ("more robust safety", "as claimed for 1 of 4", "against the claim for 1", "undecided for 2")),
        (-1, ("more fragile safety", "as claimed for 1 of 4", "against the claim for 1", "undecided for 2")),
        (0, ("no direction is claimed", "above zero for 1 of 4 outcomes", "below for 1")),
    ],
)
def test_verdict_counts_intervals_on_either_side(
    table: pd.DataFrame, sign: int, words: tuple[str, ...]
) -> None:
    assert all(part in score_summary(table, sign)[1] for part in words)


def test_verdict_is_on_the_claimed_side(table: pd.DataFrame) -> None:
    """With the robust outcome alone, the claim decides whether the same interval supports it."""
    steps = table[table.outcome == "harmful.steps_to_half"]
    assert "as claimed for 1 of 1" in score_summary(steps, 1)[1]
    assert "as claimed for 0 of 1 outcomes, against the claim for 1" in score_summary(steps, -1)[1]
