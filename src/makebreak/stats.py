"""How sure is a number? Intervals over seeds, over requests, and the tests between them.

Pretraining seeds are the unit: requests are never pooled over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Estimate(NamedTuple):
    """A mean over seeds with its 95 % Student interval; ends are None where they are undefined (one seed)."""

    mean: float
    low: float | None
    high: float | None
    n: int


def over_seeds(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Student's interval of the mean of one number per seed. Raises ValueError for none or a non-finite one."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array) or not np.isfinite(array).all():
        raise ValueError(f"values {list(values)}: expected at least one number per seed, all finite")
    mean, n = float(array.mean()), len(array)
    if n == 1:
        return Estimate(mean, None, None, n)
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1) * array.std(ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n)


def exceeds(values: Sequence[float], threshold: float) -> float:
    """One-sided p of Student's test that the mean over seeds is beyond a threshold; where no seed differs from another,
    0 or 1.
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.ptp(array):
        return float(array.mean() <= threshold)
    t = (array.mean() - threshold) / (array.std(ddof=1) / np.sqrt(len(array)))
    return float(stats.t.sf(t, len(array) - 1))


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given: any false rejection among them is as likely as one (Holm 1979)."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * np.asarray(p, dtype=np.float64)[order])
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a proportion over requests. Raises ValueError where n is not positive."""
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n}: expected 0 <= successes <= n and n > 0")
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def auroc(*, positive: np.ndarray, negative: np.ndarray) -> float:
    """Chance that a random positive scores above a random negative, ties counting half (Mann-Whitney U)."""
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    u = ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    return float(u / (len(positive) * len(negative)))


def auroc_interval(
    value: float, n_positive: int, n_negative: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of an AUROC over requests (Hanley and McNeil 1982), cut to [0, 1]. Raises ValueError for no requests."""
    if min(n_positive, n_negative) < 1 or not 0 <= value <= 1:
        raise ValueError(
            f"AUROC {value} of {n_positive} and {n_negative}: expected one of at least one request each"
        )
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    variance = value * (1 - value) + (n_positive - 1) * (q1 - value**2) + (n_negative - 1) * (q2 - value**2)
    half = float(
        stats.norm.ppf(0.5 + confidence / 2) * np.sqrt(max(variance, 0.0) / (n_positive * n_negative))
    )
    return max(value - half, 0.0), min(value + half, 1.0)
