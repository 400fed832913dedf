"""Predictors on models made safe beside their values on controls: planted differences, and none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fragility_zoo import table
from scipy.stats import ttest_1samp

from makebreak.fragility import control_table

SEEDS, MECHANISMS, DOSES = 10, 5, 4


@pytest.fixture(scope="module")
def zoo() -> pd.DataFrame:
    """Models of which a control is the last mechanism: one predictor is two deviations lower there."""
    random = np.random.default_rng(0)
    shape = (SEEDS, MECHANISMS, DOSES)
    safety, training = random.normal(size=shape), random.normal(size=shape)
    safety[:, -1] -= 2.0
    constant = np.ones(shape)
    columns = {"predictor.safety": safety, "predictor.training": training, "predictor.constant": constant}
    rows = table(columns, first_seed=5)
    rows["is_control"] = rows.mechanism == "mechanism_04"
    return rows


def test_planted_difference_has_its_size_and_none_has_none(zoo: pd.DataFrame) -> None:
    """Two deviations are measured as two; a predictor of the training alone has an interval around zero."""
    rows = control_table(zoo, "mechanism_00").set_index("predictor")
    assert rows.difference["safety"] == pytest.approx(2.0, abs=0.5)
    assert rows.low["safety"] > 1.0
    assert rows.low["training"] < 0 < rows.high["training"]
    assert (rows.n_pairs == SEEDS * DOSES).all()
    assert (rows.stage == "confirmatory").all()
    assert "constant" not in rows.index


def test_interval_is_that_of_the_seeds_and_has_its_coverage() -> None:
    """The interval is Student's over means of seeds; without a difference it misses zero in 5 % of draws."""
    random, missed = np.random.default_rng(1), 0
    for draw in range(200):
        rows = table({"predictor.noise": random.normal(size=(8, 5, 3))})
        rows["is_control"] = rows.mechanism == "mechanism_04"
        rows["seed"] += 5
        [row] = control_table(rows, "mechanism_00").itertuples()
        missed += not row.low < 0 < row.high
        if draw == 0:
            wide = rows.pivot(index=["seed", "dose"], columns="mechanism", values="predictor.noise")
            safe = rows[~rows.is_control].groupby("seed")["predictor.noise"]
            spread = safe.std().reindex(wide.index.get_level_values("seed")).to_numpy()
            by_seed = ((wide.mechanism_00 - wide.mechanism_04) / spread).groupby("seed").mean()
            ends = ttest_1samp(by_seed, 0).confidence_interval()
            assert (row.low, row.high) == pytest.approx((ends.low, ends.high))
    assert 2 <= missed <= 22  # binomial, 200 draws at .05: less than one in a thousand outside


def test_models_that_do_not_qualify_take_no_part(zoo: pd.DataFrame) -> None:
    """A pair needs both its models, and without a control there is no row."""
    rows = zoo.assign(qualifies=~((zoo.mechanism == "mechanism_04") & (zoo.dose > 1)))
    assert (control_table(rows, "mechanism_00").n_pairs == SEEDS).all()
    assert control_table(zoo[~zoo.is_control], "mechanism_00").empty
