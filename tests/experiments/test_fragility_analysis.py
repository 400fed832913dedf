"""Planted truths: what each statistic of the study says of good predictors and of proxies."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from fragility_zoo import SHAPE, copy_of, table, trajectories
from scipy.stats import spearmanr

from makebreak.errors import InvalidInput
from makebreak.fragility import association_table, orientation, prediction_table
from makebreak.stats import holm_adjust

OUTCOME = "harmful.steps_to_half"


def finite_spearman(correlation: float, n: int) -> float:
    """Expected Spearman correlation of n draws of a normal pair (Moran 1948)."""
    return 6 / np.pi / (n + 1) * (np.arcsin(correlation) + (n - 2) * np.arcsin(correlation / 2))


def associations(zoo: pd.DataFrame, signs: Mapping[str, int]) -> pd.DataFrame:
    return association_table(zoo, signs).set_index("predictor")


@pytest.fixture(scope="module")
def zoo() -> pd.DataFrame:
    """A zoo of 14 mechanisms, 6 doses and 20 seeds with every kind of predictor."""
    random = np.random.default_rng(3)
    shape = (20, *SHAPE[1:])
    margin, weight, own = (trajectories(random, shape) for _ in range(3))
    dose = np.broadcast_to(np.arange(shape[2]), shape).astype(float)
    columns = {
        "outcome.harmful.steps_to_half": trajectories(random, shape),
        "outcome.benign.compliance": dose + 0.5 * trajectories(random, shape),
        "outcome.gcg.success": -(0.7 * margin + 0.5 * own + 0.5 * trajectories(random, shape)),
        "predictor.margin": margin,
        "predictor.weight_change": weight,
        "predictor.dose_proxy": dose,
        "predictor.margin_proxy": margin**3 + 0.01 * random.standard_normal(shape),
        "predictor.own": own,
        "predictor.noise": trajectories(random, shape),
    }
    for level in (0.3, 0.6, 0.9):
        columns[f"predictor.copy_{level}"] = copy_of(columns["outcome.harmful.steps_to_half"], level, random)
    return table(columns, first_seed=15)


@pytest.fixture(scope="module")
def planted(zoo: pd.DataFrame) -> pd.DataFrame:
    """Associations of its predictors."""
    names = [name.removeprefix("predictor.") for name in zoo.columns if name.startswith("predictor.")]
    return association_table(zoo, dict.fromkeys(names, 0)).set_index(["predictor", "outcome"])


@pytest.mark.parametrize("correlation", [0.3, 0.6, 0.9])
def test_a_noisy_copy_of_the_outcome_has_its_analytic_correlation(
    planted: pd.DataFrame, correlation: float
) -> None:
    row = planted.loc[(f"copy_{correlation}", OUTCOME)]
    expected = finite_spearman(correlation, SHAPE[1])
    assert row.rank_correlation == pytest.approx(expected, abs=0.09)
    assert row.low < expected < row.high
    assert row.bootstrap_low < row.rank_correlation < row.bootstrap_high
    assert row.kendall_mechanism == pytest.approx(2 / np.pi * np.arcsin(correlation), abs=0.09)
    assert row.partial_correlation == pytest.approx(expected, abs=0.12)
    assert row.p_holm < 0.05
    assert row.information > 0
    assert row.information_p < 0.05


def test_better_copies_are_above_worse_ones_by_every_statistic(planted: pd.DataFrame) -> None:
    rows = planted.loc[[("noise", OUTCOME), *((f"copy_{level}", OUTCOME) for level in (0.3, 0.6, 0.9))]]
    for name in ("rank_correlation", "kendall", "information", "r2", "partial_correlation"):
        assert rows[name].is_monotonic_increasing, name


def test_noise_is_at_the_null_by_every_statistic(planted: pd.DataFrame) -> None:
    row = planted.loc[("noise", OUTCOME)]
    assert abs(row.rank_correlation) < 0.15
    assert row.p_holm == 1
    assert abs(row.information) < 0.01
    assert row.r2 < 0.03


def test_a_dose_proxy_is_undefined_within_doses_and_without_information(
    zoo: pd.DataFrame, planted: pd.DataFrame
) -> None:
    plain = spearmanr(zoo["predictor.dose_proxy"], zoo["outcome.benign.compliance"]).statistic
    row = planted.loc[("dose_proxy", "benign.compliance")]
    assert plain > 0.8  # over all models of all doses
    assert row.kendall_dose > 0.7  # what it follows
    assert row.kendall_mechanism == 0
    assert row.kendall < 0.4
    assert np.isnan(row.rank_correlation)
    assert np.isnan(row.p_value)
    assert row.n_seeds == 0
    assert row.information < 0.005


def test_a_margin_proxy_has_no_partial_correlation_and_no_information(planted: pd.DataFrame) -> None:
    row, own = planted.loc[("margin_proxy", "gcg.success")], planted.loc[("own", "gcg.success")]
    assert row.rank_correlation < -0.5  # what it borrows
    assert abs(row.partial_correlation) < 0.2  # ranks leave about .05 of it
    assert row.information < 0.01
    assert own.rank_correlation > row.rank_correlation  # weaker
    assert own.partial_correlation < own.partial_high < -0.5
    assert own.information > 0.03


def test_covariates_have_no_partial_correlation(planted: pd.DataFrame) -> None:
    rows = planted.loc[["margin", "weight_change"]]
    assert rows.partial_correlation.isna().all()
    assert rows.information.notna().all()


def test_an_arbitrary_property_of_mechanisms_does_not_predict_another_mechanism() -> None:
    random = np.random.default_rng(1)
    effect = random.standard_normal((1, SHAPE[1], 1))
    names = [f"property_{i}" for i in range(3)]
    columns = {f"outcome.{OUTCOME}": effect + 0.1 * random.standard_normal(SHAPE)}
    columns |= {
        f"predictor.{name}": np.broadcast_to(random.standard_normal(effect.shape), SHAPE) for name in names
    }
    columns["predictor.copy"] = effect + 0.3 * random.standard_normal(SHAPE)
    rows = prediction_table(table(columns)).set_index("predictors")
    assert rows.loc[names].r2.max() < 0.1  # although they identify each mechanism
    assert rows.loc["copy"].r2 > 0.6


def test_holm_is_over_the_pairs_of_a_world_and_stage() -> None:
    random = np.random.default_rng(2)
    y = trajectories(random, (8, *SHAPE[1:]))
    columns = {f"outcome.{OUTCOME}": y, "outcome.gcg.success": -y}
    columns |= {f"predictor.p{i}": copy_of(y, 0.2, random) for i in range(3)}
    columns["predictor.constant"] = np.ones(y.shape)
    signs = {"p0": 1, "p1": -1, "p2": 0, "constant": 1}
    rows = association_table(table(columns), signs)
    assert rows.groupby("stage").n_seeds.max().to_dict() == {"exploratory": 5, "confirmatory": 3}
    for _, part in rows.groupby("stage"):
        defined = part[part.p_value.notna()]
        assert len(defined) == 6
        assert defined.p_holm.tolist() == holm_adjust(defined.p_value.tolist())
    together = association_table(table(columns), signs, by_stage=False)  # as a score of a new measure does
    assert set(together.stage) == {"exploratory"}
    assert together.n_seeds.max() == 8
    assert not together.duplicated(["predictor", "outcome"]).any()
    p = rows[rows.stage == "exploratory"].set_index(["predictor", "outcome"]).p_value
    assert p["p0", OUTCOME] == pytest.approx(p["p0", "gcg.success"])  # claims follow the outcome
    assert p["p0", OUTCOME] < 0.1
    assert p["p1", OUTCOME] > 0.9
    assert (orientation("gcg.success"), orientation(OUTCOME)) == (-1, 1)


def test_controls_and_models_that_do_not_qualify_are_left_out() -> None:
    random = np.random.default_rng(5)
    y = trajectories(random)
    zoo = table({f"outcome.{OUTCOME}": y, "predictor.p": copy_of(y, 0.5, random)})
    before = association_table(zoo, {"p": 1})
    others = zoo.assign(mechanism=zoo.mechanism + "_sham", is_control=True, **{"predictor.p": 100.0})
    weak = zoo.assign(mechanism=zoo.mechanism + "_weak", qualifies=False, **{"predictor.p": 100.0})
    pd.testing.assert_frame_equal(before, association_table(pd.concat([zoo, others, weak]), {"p": 1}))


def test_tables_that_cannot_be_analysed_are_refused() -> None:
    random = np.random.default_rng(5)
    zoo = table({f"outcome.{OUTCOME}": trajectories(random), "predictor.p": trajectories(random)})
    with pytest.raises(InvalidInput, match=r"columns qualifies"):
        association_table(zoo.drop(columns="qualifies"), {"p": 1})
    with pytest.raises(InvalidInput, match=r"two rows .* mechanism_00, dose 1"):
        association_table(pd.concat([zoo, zoo[:1]]), {"p": 1})
    with pytest.raises(InvalidInput, match=r"predictors q: expected a column"):
        association_table(zoo, {"p": 1, "q": 1})
    with pytest.raises(InvalidInput, match=r"without outcomes"):
        association_table(zoo.drop(columns=f"outcome.{OUTCOME}"), {"p": 1})
    with pytest.raises(InvalidInput, match=r"sign 2 of predictor p"):
        association_table(zoo, {"p": 2})


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 2), (2, 4, 3)])
def test_statistics_of_few_models_are_undefined(shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(8)
    names = ("margin", "weight_change", "p", "absent")
    columns = {f"outcome.{name}": trajectories(random, shape) for name in (OUTCOME, "gcg.success")}
    columns |= {f"predictor.{name}": trajectories(random, shape) for name in names}
    columns["predictor.absent"] = columns["outcome.gcg.success"] = np.full(shape, np.nan)
    rows = association_table(table(columns), dict.fromkeys(names, 1))
    assert rows[["rank_correlation", "p_value", "p_holm", "partial_correlation"]].isna().all(axis=None)
    undefined = rows[(rows.predictor == "absent") | (rows.outcome == "gcg.success")]
    assert undefined.n_models.eq(0).all()
    assert undefined[["kendall", "information", "r2"]].isna().all(axis=None)
    predictions = prediction_table(table(columns)).set_index(["outcome", "predictors"])
    assert predictions.loc["gcg.success"].r2.isna().all()
    assert (predictions.n_models.loc[OUTCOME] == np.prod(shape)).all()


def test_worlds_are_apart() -> None:
    random = np.random.default_rng(10)
    zoos = []
    for world in ("mini", "hidden"):
        y = trajectories(random)
        zoos.append(table({f"outcome.{OUTCOME}": y, "predictor.p": copy_of(y, 0.5, random)}, world=world))
    both = association_table(pd.concat(zoos), {"p": 1})
    apart = pd.concat([association_table(zoo, {"p": 1}) for zoo in zoos[::-1]], ignore_index=True)
    pd.testing.assert_frame_equal(both, apart)
