"""Claims on planted tables: estimates, intervals, reasons, conjunctions, and Holm's correction."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from makebreak.claims import (
    LEVEL,
    Claim,
    ClaimRow,
    by_seed,
    evaluate_claims,
    for_each_seed,
    format_claims,
    format_finding,
    format_value,
)
from makebreak.tables import as_dicts


def tables(mean: float, sd: float = 0.01, n: int = 10, seed: int = 0) -> dict[str, pd.DataFrame]:
    values = mean + sd * np.random.default_rng(seed).standard_normal(n)
    return {"rates": pd.DataFrame({"seed": range(n), "arm": "ssft", "rate": values})}


def rate(data: dict[str, pd.DataFrame]) -> pd.Series:
    return by_seed(data, "rates", "rate", arm="ssft")


def stated(name: str = "X", **changes: object) -> Claim:
    plain = {"id": name, "statement": "a statement", "value": rate, "bound": 0.2, "no_effect": 0.0}
    return Claim(**(plain | changes))  # type: ignore[arg-type]


def test_estimate_and_interval_are_in_natural_units() -> None:
    data = tables(0.38)
    [row] = evaluate_claims([stated()], data)
    assert row.estimate == pytest.approx(data["rates"].rate.mean())
    assert row.interval is not None
    assert row.interval[0] < row.estimate < row.interval[1]
    assert (row.verdict, row.n_seeds, row.bound, row.no_effect) == ("supported", 10, 0.2, 0.0)
    assert row.values == {str(i): pytest.approx(v) for i, v in enumerate(data["rates"].rate)}
    assert ClaimRow(**json.loads(json.dumps(as_dicts([row])))[0]) == row


def test_reasons() -> None:
    """No rows, undefined seeds, one seed and equal seeds each say so, and never have an interval."""
    data = tables(0.38)
    no_arm = stated("a", value=lambda t: by_seed(t, "rates", "rate", arm="dpo"))
    undefined = stated("b", value=lambda t: rate(t).where(lambda v: v.index > 2))
    equal = stated("c", value=lambda t: rate(t) * 0 + 1)
    one = stated("d", value=lambda t: rate(t)[:1])
    rows = evaluate_claims([no_arm, undefined, equal, one], data)
    assert [row.verdict for row in rows] == ["not run", "not run", "supported", "inconclusive"]
    assert [row.interval for row in rows] == [None] * 4
    assert rows[0].reason == "this preset has no rows of 'rates' with arm dpo"
    assert rows[1].reason == "undefined on 3 of 10 seeds"
    assert "at ceiling" in rows[2].reason
    assert "one seed" in rows[3].reason


@pytest.mark.parametrize(
    ("means", "expected"),
    [((0.4, 0.4), "supported"), ((0.4, 0.1), "weaker than stated"), ((-0.4, 0.1), "contradicted")],
)
def test_a_conjunction_has_the_worst_verdict(means: tuple[float, float], expected: str) -> None:
    parts = [
        stated(f"P{i}", value=lambda t, shift=mean: rate(t) - rate(t).mean() + shift)
        for i, mean in enumerate(means)
    ]
    whole = Claim(id="P", statement="both", parts=("P0", "P1"))
    row = evaluate_claims([whole, *parts], tables(0.0))[0]
    assert row.verdict == expected
    assert row.estimate is None
    if expected != "supported":
        assert row.reason.startswith(expected)


def test_holm_controls_the_primary_claims_together() -> None:
    """Of 20 primary claims without an effect, in 60 studies, few studies have a verdict on any.

    Without the correction most would: the negative control.
    """
    rng, corrected, alone = np.random.default_rng(1), 0, 0
    for _ in range(60):
        frame = pd.DataFrame(rng.standard_normal((10, 20)))
        values = [lambda t, i=i: t["x"][i] for i in range(20)]
        primary = [stated(str(i), value=value, bound=0.0, role="primary") for i, value in enumerate(values)]
        rows = evaluate_claims(primary, {"x": frame.assign(seed=range(10))})
        corrected += any(row.verdict != "inconclusive" for row in rows)
        alone += any(row.p_value is not None and row.p_value < LEVEL for row in rows)
    assert corrected / 60 < 0.15  # both sides of no effect, each at the level
    assert alone / 60 > 0.35


def test_parts_are_not_corrected() -> None:
    part, primary = stated("a"), stated("b", role="primary")
    rows = evaluate_claims([part, primary], tables(0.38))
    assert rows[0].p_holm is None
    assert rows[1].p_holm is not None


def test_errors_name_the_claim() -> None:
    with pytest.raises(ValueError, match=r"\['X'\] appear twice"):
        evaluate_claims([stated(), stated()], tables(0.3))
    with pytest.raises(ValueError, match=r"Y is a conjunction of \['Z'\]"):
        evaluate_claims([Claim(id="Y", statement="both", parts=("Z",))], tables(0.3))


def test_value_of_one_seed_at_a_time() -> None:
    value = for_each_seed(lambda t: float(t["rates"].rate.max()))
    data = tables(0.4)
    assert value(data).tolist() == data["rates"].rate.tolist()


def test_formats() -> None:
    rows = evaluate_claims([stated()], tables(0.38, sd=0.0001))
    assert format_value(rows[0]) == "0.38001 [0.37995, 0.38006], n = 10"
    assert "> 0.2" in format_claims(rows)
    assert format_finding(rows[0]) == "0.38001 [0.37995, 0.38006], n = 10 (supported)"


def test_finding_says_what_is_not_decided() -> None:
    """An inconclusive claim is not decided, and one that was not run has no value."""
    [inconclusive], [absent] = (evaluate_claims([stated()], table) for table in (tables(0.2, sd=0.5), {}))
    assert format_finding(inconclusive).endswith("n = 10 (not decided)")
    assert format_finding(absent) == "not run"


def test_tables_of_a_claim_are_those_that_it_read() -> None:
    """Also by way of the tables of one seed; a table that is only there does not count."""
    data = tables(0.38)
    data |= {"other": data["rates"], "unused": data["rates"]}

    def difference(of_seed: Mapping[str, pd.DataFrame]) -> float:
        return of_seed["rates"].rate.mean() - of_seed["other"].rate.mean()

    whole = Claim(id="W", statement="both", parts=("X", "Y"))
    rows = evaluate_claims([whole, stated(), stated("Y", value=for_each_seed(difference))], data)
    assert [row.tables for row in rows] == [["rates", "other"], ["rates"], ["rates", "other"]]
    assert rows[2].values == {str(seed): 0.0 for seed in range(10)}
