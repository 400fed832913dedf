"""Agreement between judges: share, Cohen's κ with an interval over groups, and Krippendorff's α."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from sklearn.metrics import cohen_kappa_score

_DRAWS = 1000


class AgreementRow(NamedTuple):
    """Agreement of two judges on the same answers."""

    judge: str
    """Name of the first judge."""
    other_judge: str
    """Name of the second judge."""
    agreement: float
    """Share of answers on which both give the same verdict."""
    kappa: float | None
    """Cohen's κ; None if one of the two gives the same verdict throughout."""
    kappa_low: float | None
    """Lower end of the 95 % interval of κ, by a bootstrap over answers; None without κ, and where the
    two always agree: the draws would, too."""
    kappa_high: float | None
    """Upper end of that interval."""
    alpha: float | None
    """Krippendorff's α of the two; None if both give one and the same verdict throughout."""
    n: int
    """Number of answers."""


def judge_agreement_rows(verdicts: Mapping[str, np.ndarray]) -> list[AgreementRow]:
    """Returns one row per pair of judges.

    Args:
        verdicts: (n,) bool verdicts of each judge on the same answers, by the judge's name.

    Returns:
        Agreement of every pair, in the order of the names.
    """
    rows = []
    for (name, a), (other_name, b) in combinations(verdicts.items(), 2):
        kappa, low, high = cohen_kappa(a, b), None, None
        if kappa is not None and (a != b).any():
            low, high = kappa_interval(a, b, [str(i) for i in range(len(a))])
        alpha = krippendorff_alpha(np.stack([a, b]).astype(float))
        rows.append(AgreementRow(name, other_name, float((a == b).mean()), kappa, low, high, alpha, len(a)))
    return rows


def cohen_kappa(a: np.ndarray, b: np.ndarray) -> float | None:
    """Returns Cohen's κ of two judges, (n,) verdicts each; None if one gives the same verdict throughout."""
    if len(set(a.tolist())) == 1 or len(set(b.tolist())) == 1:
        return None
    return float(cohen_kappa_score(a, b))


def kappa_interval(
    a: np.ndarray, b: np.ndarray, groups: Sequence[str], *, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Returns a percentile bootstrap interval of Cohen's κ, for which whole groups of answers are drawn.

    Args:
        a: (n,) bool verdicts of the first judge, neither all true nor all false.
        b: Those of the second.
        groups: Group of each answer; answers of one group depend on one another.
        confidence: Coverage of the interval.
        seed: Seed of the draws.

    Returns:
        The ends of the interval. Draws in which κ is not defined are left out.
    """
    rng = np.random.default_rng(seed)
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    table = np.zeros((len(names), 4))  # counts of the pairs of verdicts, by group
    np.add.at(table, (index, 2 * a.astype(int) + b.astype(int)), 1)
    draws = table[rng.integers(len(names), size=(_DRAWS, len(names)))].sum(axis=1)
    draws /= draws.sum(axis=1, keepdims=True)
    observed = draws[:, 0] + draws[:, 3]
    first, second = draws[:, 2] + draws[:, 3], draws[:, 1] + draws[:, 3]
    chance = first * second + (1 - first) * (1 - second)
    kappa = (observed - chance)[chance < 1] / (1 - chance)[chance < 1]
    low, high = np.quantile(kappa, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def krippendorff_alpha(ratings: np.ndarray) -> float | None:
    """Returns Krippendorff's α of nominal ratings, by the coincidences of pairs of values within a unit.

    Args:
        ratings: (raters, units) numbers that stand for categories; NaN where a rater gave no rating.

    Returns:
        α, 1 for perfect agreement and 0 for that of chance; None if all ratings that can be paired are the
        same.
    """
    values = np.unique(ratings[~np.isnan(ratings)])
    counts = (ratings[..., None] == values).sum(axis=0).astype(float)  # (units, values)
    n_ratings = counts.sum(axis=1)
    counts, n_ratings = counts[n_ratings > 1], n_ratings[n_ratings > 1]
    pairs = counts[:, :, None] * (counts[:, None, :] - np.eye(len(values)))
    coincidences = (pairs / (n_ratings - 1)[:, None, None]).sum(axis=0)
    totals = coincidences.sum(axis=0)
    n = totals.sum()
    expected = n * n - (totals**2).sum()
    if expected == 0:
        return None
    return float(1 - (n - 1) * (n - np.trace(coincidences)) / expected)
