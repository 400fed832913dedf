"""Simulated nulls of the study's statistics: sizes of the tests, and means of statistics without
association."""

from __future__ import annotations

import numpy as np
import pytest
from fragility_zoo import SHAPE, table, trajectories
from scipy.stats import binom

from makebreak.fragility.grid import model_grids
from makebreak.fragility.information import InformationTest
from makebreak.fragility.permutation import PermutationTest, permutation_tests
from makebreak.fragility.prediction import predict

N_DRAWS = 200
LIMITS = tuple(binom.ppf([0.001, 0.999], N_DRAWS, 0.05) / N_DRAWS)


def late(random: np.random.Generator) -> np.ndarray:
    """Models without their first doses: mechanisms that need many steps until they qualify."""
    first = random.integers(0, 5, size=(*SHAPE[:2], 1))
    return np.arange(SHAPE[2]) < first


def noise_p_values(claim: int, absent: np.ndarray | None = None) -> list[PermutationTest]:
    random = np.random.default_rng(7)
    tests = []
    for _ in range(N_DRAWS):
        x, y = trajectories(random), trajectories(random)
        if absent is not None:
            x[absent] = y[absent] = np.nan
        tests.append(permutation_tests(x, {"y": y}, {"y": claim})["y"])
    return tests


@pytest.mark.parametrize("claim", [-1, 0, 1])
def test_p_values_of_noise_are_uniform(claim: int) -> None:
    tests = noise_p_values(claim)
    shares = np.array(tests, dtype=float)
    assert LIMITS[0] <= (shares[:, 0] < 0.05).mean() <= LIMITS[1]
    assert np.quantile(shares[:, 0], [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.12)
    assert (shares[:, 1] < 0.05).mean() > LIMITS[1]  # models within doses are not exchangeable


def test_p_values_of_noise_are_uniform_where_first_doses_are_absent() -> None:
    shares = np.array(noise_p_values(1, late(np.random.default_rng(1))), dtype=float)
    assert LIMITS[0] <= (shares[:, 0] < 0.05).mean() <= LIMITS[1]


def test_only_common_permutations_hold_for_a_property_of_mechanisms() -> None:
    random = np.random.default_rng(9)
    tests = []
    for _ in range(N_DRAWS):
        x, y = (
            np.broadcast_to(random.standard_normal((1, SHAPE[1], 1)), SHAPE)
            + 0.3 * random.standard_normal(SHAPE)
            for _ in range(2)
        )
        tests.append(permutation_tests(x, {"y": y}, {"y": 1})["y"])
    shares = np.array(tests, dtype=float)
    assert LIMITS[0] <= (shares[:, 2] < 0.05).mean() <= LIMITS[1]
    assert (shares[:, 0] < 0.05).mean() > 0.2  # such an association exists among these mechanisms alone


def test_information_of_noise_is_0_in_the_mean_and_its_test_has_its_size() -> None:
    random = np.random.default_rng(11)
    excess, p_values = [], []
    columns = {f"outcome.{i}": trajectories(random) for i in range(6)}
    names = ("margin", "weight_change", *"abcdefgh")
    columns |= {f"predictor.{name}": trajectories(random) for name in names}
    (grid,) = model_grids(table(columns))
    test = InformationTest(grid)
    for name in "abcdefgh":
        for result in test(name).values():
            assert result.excess is not None
            assert result.p_value is not None
            excess.append(result.excess)
            p_values.append(result.p_value)
    assert abs(np.mean(excess)) < 0.003
    low, high = binom.ppf([0.001, 0.999], len(p_values), 0.05)
    assert low <= np.sum(np.array(p_values) < 0.05) <= high


def test_noise_does_not_predict_left_out_mechanisms() -> None:
    random = np.random.default_rng(13)
    r2 = []
    for _ in range(30):
        columns = {"outcome.y": trajectories(random), "predictor.x": trajectories(random)}
        (grid,) = model_grids(table(columns))
        r2.append(predict(grid, "y", ["x"]).r2)
    assert np.mean(r2) < 0
    assert np.max(r2) < 0.06


def test_factors_that_drive_both_variables_give_little_information() -> None:
    random = np.random.default_rng(15)
    excess: dict[str, list[float | None]] = {name: [] for name in ("effect", "dose", "near_margin", "own")}
    for _ in range(8):
        margin, own = trajectories(random), trajectories(random)
        effect, dose = random.standard_normal((1, SHAPE[1], 1)), 0.5 * np.arange(SHAPE[2])
        columns = {"predictor.margin": margin, "predictor.weight_change": trajectories(random)}
        for name, factor in zip(excess, (effect, dose, margin, own), strict=True):
            columns[f"predictor.{name}"] = factor + 0.7 * trajectories(random)
            columns[f"outcome.{name}"] = factor + 0.7 * trajectories(random)
        (grid,) = model_grids(table(columns))
        test = InformationTest(grid)
        for name, values in excess.items():
            values.append(test(name)[name].excess)
    means = {name: np.mean(np.array(values, dtype=float)) for name, values in excess.items()}
    assert means["own"] > 0.1  # a variable that the conditions do not hold fixed
    assert max(means["effect"], means["dose"], means["near_margin"]) < 0.025
