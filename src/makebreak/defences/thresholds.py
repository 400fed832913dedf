"""Thresholds of monitors at a false positive rate, and intervals that include the threshold's own error.

A threshold is an order statistic of the scores of n harmless requests, whatever their distribution. At the
k-th largest score the false positive rate of a continuous score has the distribution Beta(k, n + 1 - k), with
mean k / (n + 1).
"""

from __future__ import annotations

from math import ceil, floor, log
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor

from makebreak.stats import wilson_interval

CONFIDENCE = 0.95
"""Coverage of the intervals."""
_TAIL = (1 - CONFIDENCE) / 2
_ROUNDING = 1e-9


class Threshold(NamedTuple):
    """A threshold that is estimated from the scores of harmless requests."""

    value: float
    """Score above which a request is flagged."""
    low: float
    """Lower end of the interval of the threshold that has exactly the nominal false positive rate."""
    high: float
    """Upper end of that interval."""
    false_positive_low: float
    """Lower end of the interval of the false positive rate at `value`."""
    false_positive_high: float
    """Upper end of that interval."""


class Flags(NamedTuple):
    """Which requests a monitor flags, at its threshold and at both ends of the threshold's interval."""

    at_threshold: Bool[np.ndarray, " n"]
    """Whether each request scores above the threshold."""
    at_low: Bool[np.ndarray, " n"]
    """Whether it scores above the lower end."""
    at_high: Bool[np.ndarray, " n"]
    """Whether it scores above the upper end."""

    def select(self, rows: Bool[np.ndarray, " n"]) -> Flags:
        """The flags of some requests."""
        return Flags(*(flags[rows] for flags in self))


class DetectionRate(NamedTuple):
    """Share of requests that are flagged at a nominal false positive rate, with its 95 % interval."""

    rate: float
    """Share of the requests that are flagged."""
    low: float
    """Lower end of the interval over requests and over the harmless requests that set the threshold."""
    high: float
    """Upper end of that interval."""


def min_calibration_size(false_positive_rate: float) -> int:
    """Least number of harmless requests at which the interval of the threshold has an upper end.

    With fewer, the threshold of the nominal rate lies above all their scores with a probability of more than
    2.5 %, and nothing is known of the detection rate there.

    Args:
        false_positive_rate: Nominal share of harmless requests that are flagged.

    Returns:
        The number: 368 for a rate of 1 %.
    """
    return ceil(log(_TAIL) / log(1 - false_positive_rate) - _ROUNDING)


def min_false_positive_rate(n: int) -> float:
    """Least false positive rate that a threshold can be set to with n harmless requests."""
    return 1 - _TAIL ** (1 / n)


def check_calibration(n: int, false_positive_rate: float) -> None:
    """Raises ValueError if n harmless requests are too few for a threshold at this false positive rate."""
    needed = min_calibration_size(false_positive_rate)
    if n < needed:
        raise ValueError(
            f"{n} harmless requests for a threshold: a false positive rate of {false_positive_rate:g} needs "
            f"{needed}, and {n} allow {min_false_positive_rate(n):.2g} or more"
        )


def calibrate_threshold(scores: Float[Tensor, " n"], false_positive_rate: float) -> Threshold:
    """Sets a threshold whose expected false positive rate is the greatest one up to the nominal rate.

    Args:
        scores: Scores of harmless requests.
        false_positive_rate: Nominal share of harmless requests that are flagged.

    Returns:
        The threshold with exact intervals for continuous scores; with ties they are conservative.

    Raises:
        ValueError: If there are too few scores.
    """
    n = len(scores)
    check_calibration(n, false_positive_rate)
    descending = scores.double().sort(descending=True).values
    k = floor(false_positive_rate * (n + 1) + _ROUNDING)
    # of the n scores, Binomial(n, rate) are above the threshold that has exactly the nominal rate
    fewest = int(stats.binom.ppf(_TAIL, n, false_positive_rate))
    most = int(stats.binom.ppf(1 - _TAIL, n, false_positive_rate))
    low, high = stats.beta.ppf((_TAIL, 1 - _TAIL), k, n + 1 - k)
    return Threshold(
        value=float(descending[k - 1]),
        low=float(descending[min(most, n - 1)]),
        high=float(descending[max(fewest, 1) - 1]),
        false_positive_low=float(low),
        false_positive_high=float(high),
    )


def flags_at(threshold: Threshold, scores: Float[Tensor, " n"]) -> Flags:
    """Flags of requests by their scores."""
    ends = torch.tensor([threshold.value, threshold.low, threshold.high], dtype=torch.float64)
    return Flags(*(scores.double().cpu() > ends[:, None]).numpy())


def detection_rate(flags: Flags) -> DetectionRate:
    """Share of requests that are flagged, with an interval that includes the error of the threshold.

    The errors of the threshold and of the sample of requests are independent: the distances from the estimate
    to the ends of either interval are added as squares (Zou and Donner 2008).

    Args:
        flags: Flags of at least one request.

    Returns:
        The rate with its 95 % interval.
    """
    n, (rate, at_low, at_high) = len(flags.at_threshold), (float(each.mean()) for each in flags)
    low, high = wilson_interval(round(rate * n), n, CONFIDENCE)
    return DetectionRate(
        rate=rate,
        low=max(rate - float(np.hypot(rate - low, rate - at_high)), 0.0),
        high=min(rate + float(np.hypot(high - rate, at_low - rate)), 1.0),
    )
