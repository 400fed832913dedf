"""Are intervals, proportions and AUROC what the textbooks say?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from makebreak.stats import auroc, holm_adjust, mean_confidence_interval, one_sided_t_test, wilson_interval
from synthetic import detectability

FINITE = st.floats(-1e3, 1e3, allow_nan=False)


@given(st.lists(FINITE, min_size=2, max_size=12), FINITE)
@settings(max_examples=60, deadline=None)
def test_exceeds_is_students_one_sided_test(values: list[float], threshold: float) -> None:
    if np.ptp(values) > 1e-6:
        expected = stats.ttest_1samp(values, threshold, alternative="greater").pvalue
        assert one_sided_t_test(values, threshold) == pytest.approx(expected, abs=1e-9)
    assert one_sided_t_test([0.5, 0.5], 0.4) == 0.0
    assert one_sided_t_test([0.5, 0.5], 0.5) == 1.0


def test_holm_is_the_textbooks() -> None:
    """Four of 0.01, 0.04, 0.03, 0.005: times 3, then 2 raised to the one before, 2, and 4."""
    assert holm_adjust([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_adjust([0.9, 0.8]) == [1.0, 1.0]
    assert holm_adjust([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lies_between_nothing_and_bonferroni(p: list[float]) -> None:
    adjusted = holm_adjust(p)
    assert all(a <= b <= min(1.0, a * len(p)) + 1e-12 or b == 1.0 for a, b in zip(p, adjusted, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


@given(st.lists(FINITE, min_size=2, max_size=12), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
@settings(max_examples=60, deadline=None)
def test_over_seeds_is_students_interval(values: list[float], confidence: float) -> None:
    found = mean_confidence_interval(values, confidence)
    scale = stats.sem(values)
    low, high = (scale * end for end in stats.t.interval(confidence, len(values) - 1))
    assert found.n == len(values)
    assert found.mean == pytest.approx(math.fsum(values) / len(values), abs=1e-9)
    assert found.low == pytest.approx(found.mean + low, abs=1e-9)
    assert found.high == pytest.approx(found.mean + high, abs=1e-9)


def test_over_seeds_by_hand() -> None:
    """Mean 2, standard deviation 1, n = 3: half-width 4.30265 / √3."""
    found = mean_confidence_interval([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_interval_covers_the_truth_as_often_as_it_says(n: int) -> None:
    draws = np.random.default_rng(n).normal(3.0, 2.0, size=(1500, n))
    covered = [e.low < 3.0 < e.high for e in map(mean_confidence_interval, draws.tolist())]  # type: ignore[operator]
    assert abs(np.mean(covered) - 0.95) < 5 * math.sqrt(0.95 * 0.05 / len(covered))


def test_one_seed_has_no_interval() -> None:
    assert mean_confidence_interval([0.3]) == (0.3, None, None, 1)


@pytest.mark.parametrize("values", [[], [math.nan], [1.0, math.inf], [1.0, 2.0, -math.inf]])
def test_no_value_or_a_non_finite_one_is_an_error(values: list[float]) -> None:
    with pytest.raises(ValueError, match="expected at least one number per seed, all finite"):
        mean_confidence_interval(values)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 20), (333, 1000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_solves_its_equation(successes: int, n: int, confidence: float) -> None:
    """Wilson 1927: the ends are where |p̂ - p| = z √(p (1 - p) / n), and its closed form."""
    low, high = wilson_interval(successes, n, confidence)
    z, p = stats.norm.ppf(0.5 + confidence / 2), successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert (low, high) == pytest.approx((centre - half, centre + half), abs=1e-12)
    assert 0 <= low < high <= 1
    for end in (low, high):
        assert abs(p - end) == pytest.approx(z * math.sqrt(max(end * (1 - end), 0) / n), abs=1e-7)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (1, 0), (-1, 5), (6, 5)])
def test_wilson_of_impossible_counts_is_an_error(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} of {n}: expected"):
        wilson_interval(successes, n)


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=30), st.lists(st.integers(0, 6), min_size=1, max_size=30)
)
@settings(max_examples=60, deadline=None)
def test_auroc_has_one_convention(positive: list[int], negative: list[int]) -> None:
    """Both functions of that name take keywords only and agree: classes cannot be swapped by position."""
    scores = {"positive": np.array(positive), "negative": np.array(negative)}
    assert auroc(**scores) == pytest.approx(detectability.auroc(**scores), abs=1e-12)
    for function in (auroc, detectability.auroc):
        with pytest.raises(TypeError, match="positional"):
            function(*scores.values())  # type: ignore[call-arg]


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=30), st.lists(st.integers(0, 6), min_size=1, max_size=30)
)
@settings(max_examples=60, deadline=None)
def test_auroc_with_ties_is_sklearns_and_the_pairwise_count(positive: list[int], negative: list[int]) -> None:
    found = auroc(positive=np.array(positive), negative=np.array(negative))
    pairs = [1.0 if p > q else 0.5 if p == q else 0.0 for p in positive for q in negative]
    labels = [1] * len(positive) + [0] * len(negative)
    assert found == pytest.approx(math.fsum(pairs) / len(pairs), abs=1e-12)
    assert found == pytest.approx(roc_auc_score(labels, positive + negative), abs=1e-12)
    assert auroc(positive=np.array(negative), negative=np.array(positive)) == pytest.approx(
        1 - found, abs=1e-12
    )
