"""Statistics of the study against literal restatements and scipy, on small tables with ties and gaps."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from fragility_zoo import table
from scipy.stats import kendalltau, rankdata, spearmanr
from sklearn.linear_model import RidgeCV

from makebreak.fragility.association import (
    associate,
    average_ranks,
    band_correlations,
    partial_band_correlations,
)
from makebreak.fragility.grid import model_grids
from makebreak.fragility.information import normalised_information, pair_counts
from makebreak.fragility.kendall import granulated_kendall
from makebreak.fragility.pairs import all_conditions, model_pairs
from makebreak.fragility.permutation import permutation_tests, trajectory_permutations
from makebreak.fragility.prediction import PENALTIES, impute, predict, seed_ranks
from makebreak.stats import mean_confidence_interval

SHAPE = (3, 9, 4)


def variables(n: int, seed: int = 0, gaps: float = 0.1) -> list[np.ndarray]:
    """Correlated variables with many ties and some gaps."""
    random = np.random.default_rng(seed)
    common = random.standard_normal(SHAPE)
    drawn = [np.round(2 * (common + random.standard_normal(SHAPE))) / 2 for _ in range(n)]
    return [np.where(random.random(SHAPE) < gaps, np.nan, values) for values in drawn]


def test_rank_correlations_are_those_of_scipy() -> None:
    x, y = variables(2)
    x[0, :, 0], y[1, 5:, 1] = 1.0, np.nan  # a constant variable, and fewer than 5 models
    correlations, means = band_correlations(x, y), []
    for seed in range(SHAPE[0]):
        expected = []
        for dose in range(SHAPE[2]):
            both = ~np.isnan(x[seed, :, dose]) & ~np.isnan(y[seed, :, dose])
            if both.sum() < 5 or not np.ptp(x[seed, both, dose]):
                assert np.isnan(correlations[seed, dose])
                continue
            expected.append(spearmanr(x[seed, both, dose], y[seed, both, dose]).statistic)
            assert correlations[seed, dose] == pytest.approx(expected[-1])
        means.append(np.mean(expected))
    assert np.isnan(correlations).sum() == 2
    estimate = mean_confidence_interval(means)
    assert associate(correlations)[:3] == pytest.approx(estimate[:3])


def test_an_interval_of_few_seeds_ends_where_correlations_do() -> None:
    """Student's interval of .2 and .8 is [-3.3, 4.3]."""
    assert associate(np.array([[0.2], [0.8]]))[:3] == pytest.approx((0.5, -1.0, 1.0))


def test_partial_correlations_are_those_of_residuals() -> None:
    x, y, a, b = variables(4, gaps=0.02)
    partial = partial_band_correlations(x, y, (a, b))
    n = 0
    for seed, dose in itertools.product(range(SHAPE[0]), range(SHAPE[2])):
        values = np.stack([v[seed, :, dose] for v in (x, y, a, b)])
        values = values[:, ~np.isnan(values).any(axis=0)]
        if values.shape[1] < 7:
            assert np.isnan(partial[seed, dose])
            continue
        ranks = rankdata(values, axis=1)
        basis = np.column_stack([np.ones(ranks.shape[1]), ranks[2], ranks[3]])
        left, right = (r - basis @ np.linalg.lstsq(basis, r)[0] for r in ranks[:2])
        assert partial[seed, dose] == pytest.approx(np.corrcoef(left, right)[0, 1])
        n += 1
    assert n > 6


def test_granulated_kendall_is_the_mean_of_scipy_over_groups() -> None:
    x, y = variables(2, seed=1)
    x[0, :, 2] = 1.0
    expected = []
    for axis in (1, 2, 0):
        others = [range(SHAPE[i]) for i in range(3) if i != axis]
        taus = []
        for place in itertools.product(*others):
            index = list(place)
            index.insert(axis, slice(None))
            left, right = x[tuple(index)], y[tuple(index)]
            both = ~np.isnan(left) & ~np.isnan(right)
            left, right = left[both], right[both]
            if len(left) >= 3 and np.ptp(right):
                taus.append(kendalltau(left, right).statistic if np.ptp(left) else 0.0)
        expected.append(np.mean(taus))
    mean, *by_factor = granulated_kendall(x, y)
    assert by_factor == pytest.approx(expected)
    assert mean == pytest.approx(np.mean(expected))


def literal_information(triples: list[tuple[object, float, float]]) -> float:
    """Conditional mutual information given the first, over the conditional entropy of the last."""
    n = len(triples)
    joint, of_x = Counter(triples), Counter((u, x) for u, x, _ in triples)
    of_y, of_u = Counter((u, y) for u, _, y in triples), Counter(u for u, _, _ in triples)
    information = sum(
        c / n * np.log(c * of_u[u] / (of_x[u, x] * of_y[u, y])) for (u, x, y), c in joint.items()
    )
    entropy = -sum(c / n * np.log(c / of_u[u]) for (u, _), c in of_y.items())
    return information / entropy


def test_information_is_that_of_all_ordered_pairs() -> None:
    x, y, margin, weight = variables(4, seed=2)
    columns = {"predictor.x": x, "outcome.y": y}
    columns |= {"predictor.margin": margin, "predictor.weight_change": weight}
    (grid,) = model_grids(table(columns))
    pairs = model_pairs(grid.present)

    def one_hot(values: np.ndarray) -> np.ndarray:
        difference = np.sign(values.ravel()[pairs[0]] - values.ravel()[pairs[1]])
        return np.stack([difference == sign for sign in (-1, 0, 1)], axis=1)[:, :, None].astype(np.float32)

    classes = []
    for values in (margin, weight):
        flat = values.reshape(SHAPE[0], -1)
        ranks = np.stack([np.where(np.isnan(row), np.nan, rankdata(row, nan_policy="omit")) for row in flat])
        n = (~np.isnan(flat)).sum(axis=1, keepdims=True)
        classes.append(np.floor((ranks - 0.5) / n * 3).reshape(SHAPE))
    models = list(np.ndindex(SHAPE))

    def factor(name: str, i: tuple[int, ...], j: tuple[int, ...]) -> object:
        if name == "same_mechanism":
            return i[1] == j[1]
        if name in ("mechanism", "dose"):
            axis = 1 if name == "mechanism" else 2
            return i[axis], j[axis]
        values = margin if name == "margin" else weight
        of_class = classes[0] if name == "margin" else classes[1]
        sign = 0 if np.isnan(values[i] - values[j]) else np.sign(values[i] - values[j])
        return str(of_class[i]), str(of_class[j]), sign

    conditions = all_conditions(grid)
    assert len(conditions) == 11
    for factors, condition in conditions.items():
        triples = [
            (tuple(factor(name, i, j) for name in factors), np.sign(x[i] - x[j]), np.sign(y[i] - y[j]))
            for i, j in itertools.permutations(models, 2)
            if i[0] == j[0] and not np.isnan(x[i] - x[j] + y[i] - y[j])
        ]
        counts = pair_counts(one_hot(x), one_hot(y), condition)
        assert counts.sum() == len(triples)
        assert normalised_information(counts)[0, 0] == pytest.approx(literal_information(triples), abs=1e-5)


def test_p_values_are_those_of_all_permutations() -> None:
    random = np.random.default_rng(4)
    x, y = random.standard_normal((2, 1, 6, 3))
    y = y + 0.5 * x
    ranks_x, ranks_y = average_ranks(x)[0], average_ranks(y)[0]
    values = np.array(
        [
            np.mean([np.corrcoef(ranks_x[list(order), d], ranks_y[:, d])[0, 1] for d in range(3)])
            for order in itertools.permutations(range(6))
        ]
    )
    for claim, extreme in ((1, values), (-1, -values), (0, np.abs(values))):
        test = permutation_tests(x, {"y": y}, {"y": claim})["y"]
        assert test.trajectories == pytest.approx((extreme >= extreme[0] - 1e-9).mean(), abs=0.03)
        assert test.mechanisms == pytest.approx(test.trajectories, abs=0.03)


def test_a_single_seed_has_the_small_p_values_of_all_permutations() -> None:
    """Redrawing few permutations of one seed would make p-values of 1e-5 out of rare ones."""
    random = np.random.default_rng(8)
    x = random.standard_normal((1, 8, 1))
    y = x + 0.3 * random.standard_normal(x.shape)
    ranks_x, ranks_y = average_ranks(x)[0, :, 0], average_ranks(y)[0, :, 0]
    orders = np.array(list(itertools.permutations(range(8))))
    values = ranks_x[orders] @ ranks_y
    exact = (values >= values[0] - 1e-9).mean()
    assert 2e-4 < exact < 5e-3
    test = permutation_tests(x, {"y": y}, {"y": 1})["y"]
    assert test.trajectories == pytest.approx(exact, rel=0.3)
    assert test.models == pytest.approx(exact, rel=0.3)


def test_combinations_of_seeds_are_those_of_direct_permutations() -> None:
    random = np.random.default_rng(12)
    x, y = random.standard_normal((2, 6, 8, 3))
    y = y + 0.25 * x
    ranks_x, ranks_y = ((ranks - 4.5) / np.sqrt(42) for ranks in (average_ranks(x), average_ranks(y)))
    similarity = np.einsum("sid,sjd->sij", ranks_y, ranks_x) / 18  # of every trajectory to every other
    orders = random.permuted(np.tile(np.arange(8), (20_000, 6, 1)), axis=2)
    null = similarity[np.arange(6)[:, None], np.arange(8), orders].sum(axis=(1, 2))
    direct = (null >= np.trace(similarity, axis1=1, axis2=2).sum() - 1e-9).mean()
    test = permutation_tests(x, {"y": y}, {"y": 1})["y"]
    assert 0.005 < direct < 0.2
    assert test.trajectories == pytest.approx(direct, rel=0.2)


def test_permutations_permute_the_models_that_take_part() -> None:
    random = np.random.default_rng(6)
    part = random.random(SHAPE) > 0.3
    for kind in ("trajectories", "models", "mechanisms"):
        sources = trajectory_permutations(part, 50, kind, random)
        for seed, dose in itertools.product(range(SHAPE[0]), range(SHAPE[2])):
            members = np.flatnonzero(part[seed, :, dose])
            moved = np.sort(sources[:, seed, members, dose], axis=1)
            assert (moved == members).all()
    whole = trajectory_permutations(np.ones(SHAPE, dtype=bool), 50, "trajectories", random)
    assert (whole == whole[..., :1]).all()  # all doses move together
    assert (whole != whole[:, :1]).any()  # seeds move apart
    common = trajectory_permutations(np.ones(SHAPE, dtype=bool), 50, "mechanisms", random)
    assert (common == common[:, :1, :, :1]).all()


def test_r2_is_that_of_a_literal_loop_over_mechanisms() -> None:
    x, z, y = variables(3, seed=3, gaps=0)
    (grid,) = model_grids(table({"predictor.x": x, "predictor.z": z, "outcome.y": y}))

    def ranks(values: np.ndarray) -> np.ndarray:
        return np.stack([(rankdata(row) - 1) / (row.size - 1) for row in values]).ravel()

    features, target = np.column_stack([ranks(x), ranks(z)]), ranks(y)
    mechanism = np.indices(SHAPE)[1].ravel()
    error = total = 0.0
    for left_out in range(SHAPE[1]):
        test = mechanism == left_out
        model = RidgeCV(alphas=PENALTIES).fit(features[~test], target[~test])
        error += ((target[test] - model.predict(features[test])) ** 2).sum()
        total += ((target[test] - target[~test].mean()) ** 2).sum()
    prediction = predict(grid, "y", ["x", "z"])
    assert prediction.r2 == pytest.approx(1 - error / total)
    assert prediction.low is not None
    assert prediction.high is not None
    assert prediction.low < 1 - error / total < prediction.high


def test_missing_values_become_medians_of_the_training_set_with_an_indicator() -> None:
    x = np.array([[1.0, np.nan], [3.0, 1.0], [np.nan, 2.0], [100.0, 3.0]])
    train = np.array([True, True, True, False])
    expected = [[1, 1.5, 0, 1], [3, 1, 0, 0], [2, 2, 1, 0], [100, 3, 0, 0]]
    assert impute(x, train).tolist() == expected
    assert impute(np.full((3, 1), np.nan), np.array([True, True, False])).tolist() == [[0.5]] * 3


def test_ranks_within_a_seed_run_from_0_to_1() -> None:
    values = np.array([[[3.0, 1.0], [np.nan, 2.0]], [[5.0, np.nan], [np.nan, np.nan]]])
    np.testing.assert_array_equal(
        seed_ranks(values), [[[1.0, 0.0], [np.nan, 0.5]], [[0.5, np.nan], [np.nan, np.nan]]]
    )
