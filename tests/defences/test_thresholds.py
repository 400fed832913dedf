"""Coverage of the intervals of detection and of false positives, on planted Gaussian scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from makebreak.defences import (
    calibrate_threshold,
    detection_rate,
    min_calibration_size,
    min_false_positive_rate,
)
from makebreak.defences.thresholds import flags_at
from makebreak.stats import wilson_interval

RATE, N, M, REPEATS = 0.01, 1000, 300, 400


@pytest.mark.parametrize("d", [0.0, 1.0, 2.0, 3.0])
def test_intervals_cover_the_planted_rates(d: float) -> None:
    """Normal scores, means d apart: the detection rate at a false positive rate a is Φ(d - z(1 - a))."""
    random = torch.Generator().manual_seed(1000)
    detection, false_positives, without_threshold = np.zeros((3, REPEATS), dtype=bool)
    estimates, truth = [], norm.cdf(d - norm.ppf(1 - RATE))
    for i in range(REPEATS):
        threshold = calibrate_threshold(torch.randn(N, generator=random), RATE)
        result = detection_rate(flags_at(threshold, torch.randn(M, generator=random) + d))
        estimates.append(result.rate)
        detection[i] = result.low <= truth <= result.high
        low, high = wilson_interval(round(result.rate * M), M)
        without_threshold[i] = low <= truth <= high
        fpr = norm.sf(threshold.value)
        false_positives[i] = threshold.false_positive_low <= fpr <= threshold.false_positive_high
    assert detection.mean() >= 0.94
    assert 0.92 <= false_positives.mean() <= 0.98
    assert np.mean(estimates) == pytest.approx(truth, abs=0.015)
    if d >= 2:
        assert without_threshold.mean() < 0.8, "the control: an interval over requests alone is too narrow"


def test_the_expected_false_positive_rate_is_the_nominal_one() -> None:
    """At 400 scores and a rate of 1 % the fourth largest score: 4 / 401 on average."""
    random = torch.Generator().manual_seed(1000)
    values = [calibrate_threshold(torch.randn(400, generator=random), RATE).value for _ in range(2000)]
    assert norm.sf(values).mean() == pytest.approx(4 / 401, abs=0.0004)


def test_the_least_number_of_harmless_requests() -> None:
    """The largest score is above the true threshold with probability 97.5 %, and no less will do."""
    for rate in (0.01, 0.05, 0.25):
        n = min_calibration_size(rate)
        assert (1 - rate) ** n <= 0.025 < (1 - rate) ** (n - 1)
        assert min_false_positive_rate(n) <= rate < min_false_positive_rate(n - 1)
        calibrate_threshold(torch.arange(n).double(), rate)
        with pytest.raises(ValueError, match=f"{n - 1} harmless requests for a threshold: .* needs {n}"):
            calibrate_threshold(torch.arange(n - 1).double(), rate)


def test_every_number_allows_its_least_rate() -> None:
    for n in range(8, 400):
        assert min_calibration_size(min_false_positive_rate(n)) == n


def test_ties_and_equal_scores() -> None:
    """No request is above a threshold that all harmless requests score; a few ties do no harm."""
    threshold = calibrate_threshold(torch.ones(400), RATE)
    assert detection_rate(flags_at(threshold, torch.ones(20)))[:2] == (0.0, 0.0)
    assert detection_rate(flags_at(threshold, torch.ones(20) + 1)).rate == 1.0
