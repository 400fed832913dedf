"""Matched comparison on planted paths, whose points are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from makebreak.model_zoo import IDENTITY, matched_comparison

Points = list[tuple[int, float | None, float | None]]


def run(
    mechanism: str, points: Points, *, seed: int = 0, family: str = "pretraining", rate: float = 1e-3
) -> list[dict]:
    """Rows of the zoo table for (step, margin, cost) points."""
    identity = dict(zip(IDENTITY, ("mini", seed, family, mechanism, "beta=1", rate, 1e-4, 100), strict=True))
    line = f"{seed} {family}"
    before, _, last = mechanism.rpartition(">")
    parent = None if last == "base" else f"{before or 'base'} {line}"
    key = f"{mechanism} {line}" + ("" if rate == 1e-3 else f" {rate}")
    head = {"key": key, **identity, "parent": parent}
    return [head | {"step": s, "margin": m, "cost": c} for s, m, c in points]


def zoo(*runs: list[dict]) -> pd.DataFrame:
    return pd.DataFrame([row for rows in runs for row in rows])


# the last of a base's own checkpoints counts, whatever it is called there
BASE = run("base", [(50, 9.0, 9.0), (700, 0.0, 0.0)])
LINEAR = run("ssft", [(10, 1.0, 10.0), (20, 3.0, 20.0), (30, 5.0, 60.0)])


def one(matched: pd.DataFrame, mechanism: str, seed: int = 0) -> pd.Series:
    (row,) = matched[(matched.mechanism == mechanism) & (matched.seed == seed)].to_dict("records")
    return pd.Series(row)


@pytest.mark.parametrize(
    ("value", "step", "cost"),
    [
        (0.5, 5.0, 5.0),  # between the base, step 0, and the first kept step
        (1.0, 10.0, 10.0),
        (2.0, 15.0, 15.0),
        (4.5, 27.5, 50.0),
        (5.0, 30.0, 60.0),
    ],
)
def test_points_on_a_line(value: float, step: float, cost: float) -> None:
    matched = matched_comparison(zoo(BASE, LINEAR), "margin", columns=["cost"], value=value)
    row = one(matched, "ssft")
    assert (row.matched_step, row.margin, row.cost, row.reaches_value) == (step, value, cost, True)
    assert list(matched) == [
        "key",
        *IDENTITY,
        "matched_step",
        "margin",
        "cost",
        "matched_mechanism",
        "reaches_value",
    ]
    assert len(matched) == 1, "the base is no run"


def test_first_crossing_counts() -> None:
    turning = run("dpo", [(10, 4.0, 1.0), (20, 1.0, 2.0), (30, 6.0, 3.0)])
    matched = [
        one(matched_comparison(zoo(BASE, turning), "margin", columns=["cost"], value=v), "dpo")
        for v in (2.0, 4.0, 5.0)
    ]
    assert [row.matched_step for row in matched] == pytest.approx([5, 10, 28])
    assert [row.cost for row in matched] == pytest.approx([0.5, 1.0, 2.8])


def test_order_of_rows_does_not_matter() -> None:
    table = zoo(BASE, LINEAR, run("dpo", [(10, 4.0, 1.0), (20, 1.0, 2.0), (30, 6.0, 3.0)]))
    expected = matched_comparison(table, "margin", columns=["cost"], value=4.5)
    for seed in range(5):
        shuffled = table.sample(frac=1, random_state=seed)
        pd.testing.assert_frame_equal(
            matched_comparison(shuffled, "margin", columns=["cost"], value=4.5), expected
        )


def test_run_that_never_reaches_the_value() -> None:
    weak = run("npo", [(10, 0.5, 3.0), (20, 0.25, 4.0)])
    matched = matched_comparison(zoo(BASE, LINEAR, weak), "margin", columns=["cost"], value=2.0)
    row = one(matched, "npo")
    assert not row.reaches_value
    assert np.isnan([row.matched_step, row.margin, row.cost]).all()
    assert one(matched, "ssft").reaches_value


def test_base_beyond_the_value() -> None:
    high = run("base", [(700, 3.0, 0.5)])
    row = one(matched_comparison(zoo(high, LINEAR), "margin", columns=["cost"], value=2.0), "ssft")
    assert (row.matched_step, row.cost, row.reaches_value) == (0.0, 0.5, True)
    assert row.margin == 3.0, "it is beyond the value, and the table says so"
    row = one(matched_comparison(zoo(high, LINEAR), "margin", columns=["cost"], value=3.0), "ssft")
    assert (row.matched_step, row.cost, row.margin) == (0.0, 0.5, 3.0)


def test_default_is_the_greatest_common_value() -> None:
    """Not the last one: the weakest run was at 2.5 before it fell back."""
    weak = run("dpo", [(10, 2.5, 1.0), (20, 2.0, 2.0)])
    matched = matched_comparison(zoo(BASE, LINEAR, weak), "margin", columns=["cost"])
    assert matched.reaches_value.all()
    assert matched.margin.tolist() == [2.5, 2.5]
    assert (one(matched, "dpo").matched_step, one(matched, "dpo").cost) == (10.0, 1.0)
    assert (one(matched, "ssft").matched_step, one(matched, "ssft").cost) == (17.5, 17.5)
    more = matched_comparison(zoo(BASE, LINEAR, weak), "margin", columns=["cost"], value=np.nextafter(2.5, 3))
    assert not one(more, "dpo").reaches_value


def test_runs_start_from_their_own_bases() -> None:
    runs = [
        run("base", [(700, 0.0, 0.0)]),
        run("base", [(700, 1.0, 8.0)], seed=1),
        run("base", [(700, 1.5, 4.0)], family="pretraining_without_null"),
        run("ssft", [(10, 2.0, 2.0)]),
        run("ssft", [(10, 3.0, 6.0)], seed=1),
        run("ssft", [(10, 2.5, 8.0)], family="pretraining_without_null"),
    ]
    matched = matched_comparison(zoo(*runs), "margin", columns=["cost"], value=2.0)
    assert matched[["seed", "pretraining"]].apply(tuple, axis=1).tolist() == [
        (0, "pretraining"),
        (0, "pretraining_without_null"),
        (1, "pretraining"),
    ]
    assert matched.cost.tolist() == [2.0, 6.0, 7.0]
    assert matched.matched_step.tolist() == [10.0, 5.0, 5.0]


def test_learning_rates_are_separate_runs() -> None:
    matched = matched_comparison(
        zoo(BASE, LINEAR, run("ssft", [(10, 4.0, 8.0)], rate=1e-4)), "margin", columns=["cost"], value=2.0
    )
    assert matched.learning_rate.tolist() == [1e-4, 1e-3]
    assert matched.cost.tolist() == [4.0, 15.0]


def test_unmeasured_steps_are_left_out() -> None:
    holed = run("ssft", [(10, 1.0, 10.0), (20, None, None), (30, 5.0, 60.0)])
    row = one(matched_comparison(zoo(BASE, holed), "margin", columns=["cost"], value=3.0), "ssft")
    assert (row.matched_step, row.cost) == (20.0, 35.0)


def test_column_that_a_base_lacks() -> None:
    """`trained_answer_rate` is such a column: known at a kept step, empty between the base and the first
    one."""
    base = run("base", [(700, 0.0, None)])
    table = zoo(base, run("ssft", [(10, 1.0, 0.5), (20, 3.0, 0.75)]))
    costs = [
        matched_comparison(table, "margin", columns=["cost"], value=v).cost.item()
        for v in (0.5, 1.0, 2.0, 3.0)
    ]
    np.testing.assert_equal(costs, [np.nan, 0.5, 0.625, 0.75])


def test_empty_column_stays_empty() -> None:
    table = zoo(BASE, LINEAR).assign(cost=None)
    assert matched_comparison(table, "margin", columns=["cost"], value=2.0).cost.isna().all()


@pytest.mark.parametrize("columns", [[], ["cost"], ["cost", "weight"], ["margin"], ["cost", "margin"]])
def test_any_columns_may_be_compared(columns: list[str]) -> None:
    table = zoo(BASE, LINEAR)
    matched = matched_comparison(table.assign(weight=table.cost * 2), "margin", columns=columns, value=2.0)
    row = matched.iloc[0]
    assert row.margin == 2.0
    assert [row[c] for c in columns] == [{"cost": 15.0, "weight": 30.0, "margin": 2.0}[c] for c in columns]


@pytest.mark.parametrize(
    ("on", "columns", "message"),
    [
        ("margn", ["cost"], "column 'margn' is not in the table; did you mean 'margin'"),
        ("margin", ["costs"], "column 'costs' is not in the table; did you mean 'cost'"),
        ("margin", ["cost", "zzz"], "column 'zzz' is not in the table; expected one of key, world"),
    ],
)
def test_unknown_column_names_the_nearest(on: str, columns: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        matched_comparison(zoo(BASE, LINEAR), on, columns=columns)


UNMEASURED = {
    "nothing": zoo(run("base", [(700, None, None)]), run("ssft", [(10, None, None)])),
    "only bases": zoo(BASE),
    "only the base": zoo(BASE, run("ssft", [(10, None, 1.0)])),
    "not the base": zoo(run("base", [(700, None, None)]), LINEAR),
    "an empty table": zoo(BASE, LINEAR).head(0),
}


@pytest.mark.parametrize("kind", UNMEASURED)
def test_no_run_has_base_and_later_step(kind: str) -> None:
    with pytest.raises(ValueError, match="no run of the table has 'margin' at its base and at a later step"):
        matched_comparison(UNMEASURED[kind], "margin", columns=["cost"], value=0.5)


@pytest.mark.parametrize(
    "bases", [[], run("base", [(700, 0.0, 0.0)], seed=1)], ids=["no base", "another seed's"]
)
def test_run_without_its_base_is_refused(bases: list[dict]) -> None:
    with pytest.raises(
        ValueError, match=r"ssft .* starts from base 0 pretraining, which is not in the table: keep both"
    ):
        matched_comparison(zoo(bases, LINEAR), "margin", columns=["cost"], value=0.5)


def test_models_of_one_identity_are_separate() -> None:
    """Two runs of DPO that differ only in β have one identity, and two keys."""
    other = [row | {"key": "another", "margin": row["margin"] * 2} for row in LINEAR]
    matched = matched_comparison(zoo(BASE, LINEAR, other), "margin", columns=["cost"], value=2.0).set_index(
        "key"
    )
    assert matched.matched_step.to_dict() == {LINEAR[0]["key"]: 15.0, "another": 10.0}


def test_bases_of_two_sizes() -> None:
    """Bases of two sizes may be in one store."""
    larger = [row | {"key": "larger"} for row in run("base", [(900, 1.5, 3.0)])]
    other = [row | {"key": "of larger", "parent": "larger"} for row in LINEAR]
    matched = matched_comparison(
        zoo(BASE, larger, LINEAR, other), "margin", columns=["cost"], value=1.25
    ).set_index("key")
    assert matched.matched_step.to_dict() == {LINEAR[0]["key"]: 11.25, "of larger": 0.0}


def test_later_stage_continues_the_path() -> None:
    """Where the warm start is in the table, the path goes through it, and steps are counted through."""
    warm = run("ssft", [(10, 2.0, 10.0), (20, 4.0, 20.0)])
    dpo = run("ssft>dpo", [(5, 6.0, 100.0)])
    for value, step, cost, mechanism in (
        (1.0, 5.0, 5.0, "ssft"),
        (4.0, 20.0, 20.0, "ssft"),
        (5.0, 22.5, 60.0, "ssft>dpo"),
    ):
        row = one(
            matched_comparison(zoo(BASE, dpo, warm), "margin", columns=["cost"], value=value), "ssft>dpo"
        )
        assert (row.matched_step, row.cost, row.matched_mechanism) == (step, cost, mechanism)
    unmeasured = run("ssft", [(10, None, None), (20, None, None)])
    row = one(
        matched_comparison(zoo(BASE, dpo, unmeasured), "margin", columns=["cost"], value=3.0), "ssft>dpo"
    )
    assert (row.matched_step, row.cost) == (12.5, 50.0), "unmeasured steps count as steps"
    with pytest.raises(ValueError, match=r"ssft>dpo .* starts from ssft .*, which is not in the table"):
        matched_comparison(zoo(BASE, dpo), "margin", columns=["cost"], value=3.0)


@pytest.mark.parametrize("share", [None, 0.3])
def test_rising_paths_equal_numpy_interp(share: float | None) -> None:
    """Fifteen seeds of 1 to 6 kept steps; share: of the least rise (None: the default, all of it)."""
    random = np.random.default_rng(0)
    rises = [np.cumsum(random.uniform(0.1, 3.0, random.integers(1, 7))) for _ in range(15)]
    paths = []
    for rise in rises:
        margin, cost = np.r_[-1.0, rise - 1], random.normal(size=len(rise) + 1)
        steps = np.r_[0, np.cumsum(random.integers(1, 9, len(rise)))]
        paths.append((margin, cost, steps))
    runs = []
    for seed, path in enumerate(paths):
        points = [(int(step), float(margin), float(cost)) for margin, cost, step in zip(*path, strict=True)]
        runs += [run("base", [(700, *points[0][1:])], seed=seed), run("ssft", points[1:], seed=seed)]
    least = min(margin[-1] for margin, _, _ in paths)
    target = least if share is None else -1 + share * (least + 1)
    matched = matched_comparison(
        zoo(*runs), "margin", columns=["cost"], value=None if share is None else target
    )
    assert matched.seed.tolist() == list(range(15))
    assert matched.reaches_value.all()
    assert (matched.margin == target).all()
    for column, index in (("cost", 1), ("matched_step", 2)):
        expected = [np.interp(target, path[0], path[index]) for path in paths]
        np.testing.assert_allclose(matched[column], expected, rtol=0, atol=1e-9)
