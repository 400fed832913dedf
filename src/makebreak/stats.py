"""Confidence intervals over seeds, requests and pairs of values, tests between them, and the AUROC.

Pretraining seeds are the unit of analysis: requests are never pooled over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats


class Estimate(NamedTuple):
    """A mean over seeds with its 95 % Student interval."""

    mean: float
    """Mean over seeds."""
    low: float | None
    """Lower end of the interval; None for one seed."""
    high: float | None
    """Upper end of the interval; None for one seed."""
    n: int
    """Number of seeds."""


def mean_confidence_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Mean of one number per seed with Student's interval.

    Args:
        values: One number per seed.
        confidence: Coverage of the interval.

    Returns:
        The mean, both ends of the interval (None for one seed) and the number of seeds.

    Raises:
        ValueError: If there is no value, or one that is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if not len(array) or not np.isfinite(array).all():
        raise ValueError(f"values {list(values)}: expected at least one number per seed, all finite")
    mean, n = float(array.mean()), len(array)
    if n == 1:
        return Estimate(mean, None, None, n)
    half_width = float(stats.t.ppf(0.5 + confidence / 2, n - 1) * array.std(ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half_width, mean + half_width, n)


def one_sided_t_test(values: Sequence[float], threshold: float) -> float:
    """One-sided p of Student's test that the mean over seeds exceeds a threshold.

    Args:
        values: One number per seed.
        threshold: Value that the mean is tested against.

    Returns:
        The p-value; 0 or 1 if all seeds have the same value.
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.ptp(array):
        return float(array.mean() <= threshold)
    t = (array.mean() - threshold) / (array.std(ddof=1) / np.sqrt(len(array)))
    return float(stats.t.sf(t, len(array) - 1))


def holm_adjust(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values in the order given, which control the family-wise error rate (Holm 1979)."""
    n, order = len(p_values), np.argsort(p_values)
    scaled = (n - np.arange(n)) * np.asarray(p_values, dtype=np.float64)[order]
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted.tolist()


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a proportion over requests.

    Args:
        successes: Number of requests that count.
        n: Number of requests.
        confidence: Coverage of the interval.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: If n is not positive, or successes are not between 0 and n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n}: expected 0 <= successes <= n and n > 0")
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def rank_correlation_interval(
    correlation: float, n: int, n_strata: int = 1, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of Spearman's correlation over independent pairs, by Fisher's transformation.

    The variance is that of Bonett and Wright 2000 ("Sample size requirements for estimating Pearson, Kendall
    and Spearman correlations"), (1 + r²/2) / (n - 3), where every stratum takes 3 from n.

    Args:
        correlation: Spearman's correlation, or its mean over strata of equal size.
        n: Number of pairs in all.
        n_strata: Number of strata, within which pairs are ranked.
        confidence: Coverage of the interval.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: If the correlation is not between -1 and 1, or a stratum has fewer than 4 pairs.
    """
    if not -1 <= correlation <= 1 or n < 4 * n_strata:
        raise ValueError(
            f"correlation {correlation} of {n} pairs, n_strata {n_strata}: expected -1 <= correlation <= 1 "
            "and at least 4 pairs in a stratum"
        )
    half = stats.norm.ppf(0.5 + confidence / 2) * np.sqrt((1 + correlation**2 / 2) / (n - 3 * n_strata))
    with np.errstate(divide="ignore"):
        centre = np.arctanh(correlation)
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))


def clustered_share_interval(
    shares: Sequence[float], n_per_cluster: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of a mean over requests of shares of their own, such as shares of sampled answers.

    Wilson's interval with the effective number of answers, p(1 - p) / var(p), which is between the number of
    requests and that of all answers, and with Student's quantile in place of the normal one (Korn and
    Graubard 1998; Dean and Pagano 2015). Where all shares are equal, answers to one request count as one.
    In simulations, coverage is 92 % for correlated answers and a mean of 0.02, and at least 93 % otherwise.

    Args:
        shares: One share per request.
        n_per_cluster: Number of answers that each share is of.
        confidence: Coverage of the interval.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: If there is no share, one is not between 0 and 1, or there are no answers.
    """
    values = np.asarray(shares, dtype=np.float64)
    if not len(values) or n_per_cluster < 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"shares {list(shares)} of {n_per_cluster} answers: expected at least one answer, and one share "
            "between 0 and 1 per request"
        )
    n, p = len(values), float(values.mean())
    variance = float(values.var(ddof=1)) / n if n > 1 else 0.0
    n_effective = float(n)
    if variance > 0:
        n_effective = min(max(p * (1 - p) / variance, n), n * n_per_cluster)
    z = float(stats.t.ppf(0.5 + confidence / 2, n - 1) if n > 1 else stats.norm.ppf(0.5 + confidence / 2))
    centre = p + z**2 / (2 * n_effective)
    half_width = z * np.sqrt(p * (1 - p) / n_effective + z**2 / (4 * n_effective**2))
    scale = 1 + z**2 / n_effective
    return max(float(centre - half_width) / scale, 0.0), min(float(centre + half_width) / scale, 1.0)


def ratio_interval(
    totals: Float[np.ndarray, " n"], sizes: Float[np.ndarray, " n"], confidence: float = 0.95
) -> tuple[float, float, float]:
    """Ratio of two sums over texts, such as a loss per token, with Student's interval over texts.

    Args:
        totals: Sum of each text.
        sizes: Size of each text, as its number of tokens.
        confidence: Coverage of the interval.

    Returns:
        The ratio of the sums, and both ends of its interval by linearisation.

    Raises:
        ValueError: If there are fewer than two texts.
    """
    n = len(totals)
    if n < 2:
        raise ValueError(f"{n} texts: expected at least 2 for an interval over texts")
    ratio = float(totals.sum() / sizes.sum())
    standard_error = float(np.sqrt(n / (n - 1) * ((totals - ratio * sizes) ** 2).sum()) / sizes.sum())
    half_width = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * standard_error
    return ratio, ratio - half_width, ratio + half_width


def auroc(*, positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties counting half (Mann-Whitney U)."""
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    u = ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    return float(u / (len(positive) * len(negative)))


def auroc_variance(
    value: Float[np.ndarray, "*shape"], n_positive: int, n_negative: int
) -> Float[np.ndarray, "*shape"]:
    """Sampling variance of an AUROC of the given true value over requests (Hanley and McNeil 1982)."""
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    variance = value * (1 - value) + (n_positive - 1) * (q1 - value**2) + (n_negative - 1) * (q2 - value**2)
    return np.asarray(np.maximum(variance, 0.0) / (n_positive * n_negative))


def auroc_interval(
    value: float, n_positive: int, n_negative: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of an AUROC over requests (Hanley and McNeil 1982), cut to [0, 1].

    Args:
        value: The AUROC.
        n_positive: Number of positive requests.
        n_negative: Number of negative requests.
        confidence: Coverage of the interval.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: If a class has no requests, or the AUROC is not between 0 and 1.
    """
    if min(n_positive, n_negative) < 1 or not 0 <= value <= 1:
        raise ValueError(
            f"AUROC {value} of {n_positive} and {n_negative} requests: expected a value between 0 and 1 "
            "and at least one request of each class"
        )
    standard_error = float(np.sqrt(auroc_variance(np.array(value), n_positive, n_negative)))
    half_width = float(stats.norm.ppf(0.5 + confidence / 2)) * standard_error
    return max(value - half_width, 0.0), min(value + half_width, 1.0)
