"""Verdicts of intervals, and the level at which an interval first has its verdict."""

from __future__ import annotations

import numpy as np
import pytest

from makebreak.claims import Claim
from makebreak.stats import mean_confidence_interval


def claim(**changes: object) -> Claim:
    plain = {"id": "X", "statement": "a statement", "value": lambda tables: None}
    return Claim(**(plain | changes))  # type: ignore[arg-type]


# bound .2, no effect 0, negligible within .05 unless said otherwise
VERDICTS = [
    ("beyond the bound", 0.3, 0.4, {}, "supported"),
    ("touches the bound", 0.2, 0.4, {}, "inconclusive"),
    ("above no effect, short of the bound", 0.06, 0.15, {}, "weaker than stated"),
    ("across the bound, above no effect", 0.1, 0.3, {}, "inconclusive"),
    ("other side of no effect", -0.3, -0.1, {}, "contradicted"),
    ("within the margin", -0.04, 0.04, {}, "negligible"),
    ("within the margin, above no effect", 0.01, 0.04, {}, "negligible"),
    ("beyond a bound within the margin", 0.01, 0.04, {"bound": 0.0}, "negligible"),
    ("an end on the margin", -0.05, 0.04, {}, "inconclusive"),
    ("across everything", -0.3, 0.3, {}, "inconclusive"),
    ("no effect of its own", 1.05, 1.1, {"bound": 1.0, "no_effect": 1.0, "negligible": 0.0}, "supported"),
    ("below the bound, claimed below", 0.0, 0.04, {"side": "below", "bound": 0.05}, "supported"),
    ("above it, claimed below", 0.1, 0.2, {"side": "below", "bound": 0.05}, "contradicted"),
    (
        "a fall that is short of the bound",
        -0.15,
        -0.06,
        {"side": "below", "bound": -0.2, "no_effect": 0.0},
        "weaker than stated",
    ),
    ("within a distance", -0.1, 0.1, {"side": "within"}, "supported"),
    ("beyond a distance", 0.25, 0.3, {"side": "within"}, "contradicted"),
    ("across a distance", 0.1, 0.3, {"side": "within"}, "inconclusive"),
]


@pytest.mark.parametrize(
    ("low", "high", "changes", "expected"), [v[1:] for v in VERDICTS], ids=[v[0] for v in VERDICTS]
)
def test_verdict_table(low: float, high: float, changes: dict[str, object], expected: str) -> None:
    side = changes.get("side", "above")
    plain = {"bound": 0.2, "negligible": 0.05} | ({"no_effect": 0.0} if side == "above" else {})
    plain |= {"negligible": 0.0} if side != "above" else {}
    assert claim(**(plain | changes)).verdict(low, high) == expected


@pytest.mark.parametrize("side", ["above", "below", "within"])
def test_p_value_is_the_level_of_the_interval(side: str) -> None:
    """A decided verdict's interval of coverage 1 - 2p just touches what decides it, whatever the side."""
    rng, seen = np.random.default_rng(0), set()
    bound = {"above": 0.2, "below": -0.2, "within": 0.3}[side]
    for mean in (-0.6, -0.3, -0.1, 0.0, 0.1, 0.3, 0.6):
        stated = claim(side=side, bound=bound, no_effect=0.0, negligible=0.0 if side == "within" else 0.05)
        values = (mean + rng.normal(0, 0.01, 8)).tolist()
        low, high = mean_confidence_interval(values)[1:3]
        assert low is not None
        assert high is not None
        verdict = stated.verdict(low, high)
        p = stated.p_value(values, verdict)
        if verdict == "inconclusive":
            continue
        seen.add(verdict)
        assert p < 0.025
        wider, narrower = (mean_confidence_interval(values, 1 - 2 * p * f)[1:3] for f in (0.9, 1.1))
        assert stated.verdict(*narrower) == verdict  # type: ignore[arg-type]
        assert stated.verdict(*wider) != verdict  # type: ignore[arg-type]
    assert len(seen) >= 2


def test_equal_seeds_have_the_p_of_the_sign_test() -> None:
    assert claim(bound=0.9).p_value([1.0] * 5, "supported") == 2**-5


@pytest.mark.parametrize(
    "changes",
    [
        {"value": None},
        {"parts": ("Y",)},
        {"bound": -0.1, "no_effect": 0.0},
        {"side": "below", "bound": 0.1, "no_effect": 0.0},
        {"side": "within", "bound": 0.0},
    ],
)
def test_impossible_claims_are_errors(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="claim X"):
        claim(**changes)
