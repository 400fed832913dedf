"""Tests of intervals, p-values, proportions and AUROC against scipy, scikit-learn and textbooks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from makebreak.stats import (
    auroc,
    holm_adjust,
    mean_confidence_interval,
    one_sided_t_test,
    rank_correlation_interval,
    wilson_interval,
)

FINITE = st.floats(-1e3, 1e3, allow_nan=False)


@given(st.lists(FINITE, min_size=2, max_size=12), FINITE)
@settings(max_examples=60, deadline=None)
def test_one_sided_t_test_matches_scipy(values: list[float], threshold: float) -> None:
    """The p-value is scipy's; without variance it is 0 or 1."""
    if np.ptp(values) > 1e-6:
        expected = stats.ttest_1samp(values, threshold, alternative="greater").pvalue
        assert one_sided_t_test(values, threshold) == pytest.approx(expected, abs=1e-9)
    assert one_sided_t_test([0.5, 0.5], 0.4) == 0.0
    assert one_sided_t_test([0.5, 0.5], 0.5) == 1.0


def test_holm_adjust_by_hand() -> None:
    """Four of 0.01, 0.04, 0.03, 0.005: times 3, then 2 raised to the one before, 2, and 4."""
    assert holm_adjust([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_adjust([0.9, 0.8]) == [1.0, 1.0]
    assert holm_adjust([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_adjust_keeps_order_and_bounds(p: list[float]) -> None:
    """Adjusted p-values keep the order and lie between the raw and Bonferroni's."""
    adjusted = holm_adjust(p)
    assert all(a <= b <= min(1.0, a * len(p)) + 1e-12 or b == 1.0 for a, b in zip(p, adjusted, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


@given(st.lists(FINITE, min_size=2, max_size=12), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
@settings(max_examples=60, deadline=None)
def test_mean_interval_is_students(values: list[float], confidence: float) -> None:
    """The interval is Student's."""
    result = mean_confidence_interval(values, confidence)
    scale = stats.sem(values)
    low, high = (scale * end for end in stats.t.interval(confidence, len(values) - 1))
    assert result.n == len(values)
    assert result.mean == pytest.approx(math.fsum(values) / len(values), abs=1e-9)
    assert result.low == pytest.approx(result.mean + low, abs=1e-9)
    assert result.high == pytest.approx(result.mean + high, abs=1e-9)


def test_mean_interval_by_hand() -> None:
    """Mean 2, standard deviation 1, n = 3: half-width 4.30265 / √3."""
    result = mean_confidence_interval([1.0, 2.0, 3.0])
    assert result.mean == 2.0
    assert result.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert result.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_interval_has_nominal_coverage(n: int) -> None:
    """The interval covers the true mean as often as it should."""
    draws = np.random.default_rng(n).normal(3.0, 2.0, size=(1500, n))
    covered = [e.low < 3.0 < e.high for e in map(mean_confidence_interval, draws.tolist())]  # type: ignore[operator]
    assert abs(np.mean(covered) - 0.95) < 5 * math.sqrt(0.95 * 0.05 / len(covered))


def test_one_seed_has_no_interval() -> None:
    assert mean_confidence_interval([0.3]) == (0.3, None, None, 1)


@pytest.mark.parametrize("values", [[], [math.nan], [1.0, math.inf], [1.0, 2.0, -math.inf]])
def test_values_must_be_finite(values: list[float]) -> None:
    """No value, or one that is not finite, is an error."""
    with pytest.raises(ValueError, match="expected at least one number per seed, all finite"):
        mean_confidence_interval(values)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 20), (333, 1000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_interval_solves_its_equation(successes: int, n: int, confidence: float) -> None:
    """The ends solve |p̂ - p| = z √(p (1 - p) / n) (Wilson 1927)."""
    low, high = wilson_interval(successes, n, confidence)
    z, p = stats.norm.ppf(0.5 + confidence / 2), successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert (low, high) == pytest.approx((centre - half, centre + half), abs=1e-12)
    assert 0 <= low < high <= 1
    for end in (low, high):
        assert abs(p - end) == pytest.approx(z * math.sqrt(max(end * (1 - end), 0) / n), abs=1e-7)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (1, 0), (-1, 5), (6, 5)])
def test_wilson_interval_rejects_impossible_counts(successes: int, n: int) -> None:
    """Impossible counts are an error."""
    with pytest.raises(ValueError, match=f"{successes} of {n}: expected"):
        wilson_interval(successes, n)


@pytest.mark.parametrize(("rho", "n", "n_strata"), [(0.0, 9, 1), (0.5, 9, 1), (0.8, 12, 1), (0.5, 9, 2)])
def test_rank_correlation_interval_has_its_coverage(rho: float, n: int, n_strata: int) -> None:
    """It holds the correlation of the population, 6/π asin(ρ/2), in about 95 % of samples of normal pairs."""
    random = np.random.default_rng(n)
    x = random.normal(size=(1000, n_strata, n))
    y = rho * x + math.sqrt(1 - rho**2) * random.normal(size=x.shape)
    population = 6 / math.pi * math.asin(rho / 2)
    ends = []
    for pairs in zip(x, y, strict=True):
        strata = [stats.spearmanr(*stratum).statistic for stratum in zip(*pairs, strict=True)]
        ends.append(rank_correlation_interval(float(np.mean(strata)), n * n_strata, n_strata))
    low, high = np.transpose(ends)
    assert 0.92 < np.mean((low <= population) & (population <= high)) < 0.99


def test_rank_correlation_interval_at_its_ends() -> None:
    """A perfect correlation has no width, and too few pairs are an error."""
    assert rank_correlation_interval(1.0, 9) == (1.0, 1.0)
    with pytest.raises(ValueError, match="of 3 pairs, n_strata 1: expected"):
        rank_correlation_interval(0.5, 3)
    with pytest.raises(ValueError, match="of 7 pairs, n_strata 2: expected"):
        rank_correlation_interval(0.5, 7, n_strata=2)


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=30), st.lists(st.integers(0, 6), min_size=1, max_size=30)
)
@settings(max_examples=60, deadline=None)
def test_auroc_has_one_convention(positive: list[int], negative: list[int]) -> None:
    """It takes keywords only: classes cannot be swapped by position."""
    with pytest.raises(TypeError, match="positional"):
        auroc(np.array(positive), np.array(negative))  # type: ignore[call-arg]


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=30), st.lists(st.integers(0, 6), min_size=1, max_size=30)
)
@settings(max_examples=60, deadline=None)
def test_auroc_matches_sklearn_and_pairwise_count(positive: list[int], negative: list[int]) -> None:
    """Ties count half, and swapped classes give one minus the value."""
    result = auroc(positive=np.array(positive), negative=np.array(negative))
    pairs = [1.0 if p > q else 0.5 if p == q else 0.0 for p in positive for q in negative]
    labels = [1] * len(positive) + [0] * len(negative)
    assert result == pytest.approx(math.fsum(pairs) / len(pairs), abs=1e-12)
    assert result == pytest.approx(roc_auc_score(labels, positive + negative), abs=1e-12)
    assert auroc(positive=np.array(negative), negative=np.array(positive)) == pytest.approx(
        1 - result, abs=1e-12
    )
