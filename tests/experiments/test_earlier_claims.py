"""Tests of verdicts, of Holm's correction and of the rows of claims.json."""

from __future__ import annotations

import json
import math

import pytest

from experiments.earlier_claims import Claim, format_claims, holm_adjust_claims
from makebreak.stats import mean_confidence_interval

FIELDS = {
    *("id", "kind", "source", "statement", "statistic", "estimate"),
    *("interval", "unit", "chance", "threshold", "n_seeds", "verdict"),
}


def claim(**changes: object) -> Claim:
    plain = {
        "id": "C1",
        "kind": "claim",
        "source": "Jain et al. 2024, Fig. 3",
        "statement": "clusters part",
        "statistic": "gap, aligned minus base",
        "unit": "none",
        "threshold": 0.1,
    }
    return Claim(**(plain | changes))  # type: ignore[arg-type]


# threshold 0.1, chance 0, equivalence 0.05 unless said otherwise
VERDICTS = [
    ("wholly above", 0.2, 0.3, {}, "supported"),
    ("wholly below", -0.3, 0.05, {}, "not supported"),
    ("straddles the threshold", 0.05, 0.3, {}, "inconclusive"),
    ("just touches the threshold from above", 0.1, 0.3, {}, "inconclusive"),
    ("just touches the threshold from below", 0.02, 0.1, {}, "inconclusive"),
    ("above threshold, but not above chance", 0.2, 0.6, {"chance": 0.5}, "inconclusive"),
    ("above both", 0.55, 0.6, {"chance": 0.5}, "supported"),
    ("inside the margin, across the threshold", -0.04, 0.04, {"threshold": 0.0}, "not supported"),
    ("margin is around chance", 0.46, 0.54, {"threshold": 0.5, "chance": 0.5}, "not supported"),
    ("one end outside the margin", -0.04, 0.06, {"threshold": 0.0}, "inconclusive"),
    ("an end on the margin", -0.04, 0.05, {"threshold": 0.0}, "inconclusive"),
    ("above threshold inside the margin", 0.01, 0.04, {"threshold": 0.0}, "not supported"),
    ("no margin", -0.001, 0.001, {"threshold": 0.0, "equivalence": 0.0}, "inconclusive"),
    ("one seed", None, None, {}, "inconclusive"),
]


@pytest.mark.parametrize(
    ("low", "high", "changes", "expected"), [v[1:] for v in VERDICTS], ids=[v[0] for v in VERDICTS]
)
def test_verdict_table(
    low: float | None, high: float | None, changes: dict[str, float], expected: str
) -> None:
    assert claim(**({"equivalence": 0.05} | changes)).verdict(low, high) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5, 0.6, 0.55], "supported"),
        ([-0.5, -0.6, -0.55], "not supported"),
        ([-0.5, 0.6, 0.3], "inconclusive"),
        ([0.9], "inconclusive"),
        ([-0.9], "inconclusive"),
    ],
)
def test_evaluate_uses_the_interval_over_seeds(values: list[float], expected: str) -> None:
    """The row holds the mean, Student's interval and the verdict."""
    row, estimate = claim().evaluate(values), mean_confidence_interval(values)
    assert row["verdict"] == expected
    assert (row["estimate"], *row["interval"], row["n_seeds"]) == tuple(estimate)
    assert "reason" not in row


@pytest.mark.parametrize(
    ("values", "reason", "n", "says"),
    [
        ([], "the preset has no such arm", 0, "the preset has no such arm"),
        ([], "", 0, "undefined on 0 of 0 seeds"),
        ([None, None, None], "", 0, "undefined on 3 of 3 seeds"),
        ([0.5, None, 0.6], "", 2, "undefined on 1 of 3 seeds"),
        ([None, 0.6], "no request complied", 1, "no request complied"),
    ],
)
def test_undefined_values_are_not_run(values: list[float | None], reason: str, n: int, says: str) -> None:
    """Undefined values give `not run` and a reason."""
    row = claim().evaluate(values, reason)
    assert (row["verdict"], row["estimate"], row["interval"], row["n_seeds"]) == (
        "not run",
        None,
        [None, None],
        n,
    )
    assert row["reason"] == says


@pytest.mark.parametrize("values", [[math.nan, 0.5], [math.inf, 1.0]])
def test_non_finite_value_is_an_error(values: list[float]) -> None:
    """A value that is not finite is an error, not a verdict."""
    with pytest.raises(ValueError, match="all finite"):
        claim().evaluate(values)


@pytest.mark.parametrize("values", [[0.5, 0.6, 0.7], [0.5], [], [None]])
def test_row_has_the_contracts_keys(values: list[float | None]) -> None:
    check = claim(id="C2.depth", kind="check", chance=0.25)
    row = check.evaluate(values)
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert set(row) - {"reason"} == FIELDS
    assert (row["id"], row["kind"], row["chance"], row["threshold"]) == ("C2.depth", "check", 0.25, 0.1)
    assert (row["source"], row["statement"], row["unit"]) == (check.source, check.statement, "none")


def test_holm_adjusted_claims_need_more() -> None:
    """Alone, p is .018 and .0002: the first is below .025, but not twice that."""
    claims = [Claim(name, "claim", "ours", "a", "b", "rate", 0.0) for name in ("a", "b", "c", "alone")]
    values = {
        "a": [0.1, 0.15, 0.2],
        "b": [0.30, 0.31, 0.32],
        "c": [-0.1, 0.2, 0.0],
        "alone": [0.1, 0.15, 0.2],
    }
    rows = [claim.evaluate(values[claim.id]) for claim in claims]
    assert [row["verdict"] for row in rows] == ["supported", "supported", "inconclusive", "supported"]
    adjusted = holm_adjust_claims(rows, {name: values[name] for name in ("a", "b", "c")})
    assert [row["verdict"] for row in adjusted] == ["inconclusive", "supported", "inconclusive", "supported"]
    assert adjusted[0]["reason"].startswith(
        "supported alone, but not after Holm's correction together with b, c: adjusted p 0.0"
    )
    assert [row["estimate"] for row in adjusted] == [row["estimate"] for row in rows]
    unrun = [claims[0].evaluate([]), *rows[1:]]
    assert holm_adjust_claims(unrun, {"a": [], "b": values["b"]}) == unrun


def test_format_claims_is_aligned() -> None:
    """Columns of the table are aligned."""
    rows = [
        claim().evaluate([0.5, 0.6, 0.7]),
        claim(id="C12.very_long_part", kind="check", statement="another").evaluate([-0.25]),
        claim(id="C3", statement="third").evaluate([]),
    ]
    header, *lines = format_claims(rows).split("\n")
    assert len(lines) == 3
    for i, row in enumerate(rows):
        for column in ("id", "kind", "verdict", "statement"):
            assert lines[i][header.index(column) :].startswith(row[column])
    start = {name: header.index(name) for name in ("estimate", "95 % interval", "threshold", "seeds")}
    assert lines[0][start["estimate"] :].startswith("+0.600 ")
    assert lines[0][start["95 % interval"] :].startswith("[+0.352, +0.848]")
    assert lines[1][start["estimate"] :].startswith("-0.250 ")
    assert lines[1][start["95 % interval"] :].startswith("n/a ")
    assert lines[2][start["estimate"] :].startswith("n/a ")
    assert [line[start["seeds"]] for line in lines] == ["3", "1", "0"]
    assert all(line[start["threshold"] :].startswith("+0.100 ") for line in lines)
