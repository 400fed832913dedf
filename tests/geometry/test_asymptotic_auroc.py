"""The AUROC of exact class means and its interval, on planted normal activations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from makebreak.geometry import AsymptoticAuroc, ClassMeanFitter, ClassMeans, asymptotic_auroc, separation
from tests.geometry.test_class_means import gaussian

SCALES = {"isotropic": torch.ones(64), "anisotropic": torch.linspace(0.3, 2, 64)}


def estimates(
    d_prime: float, scale: torch.Tensor, axis: int, *, n: int, repeats: int, seed: int
) -> list[AsymptoticAuroc]:
    """Estimates from as many requests for the means as for the score; classes differ along one axis."""
    random, results = torch.Generator().manual_seed(seed), []
    shift = torch.zeros(len(scale))
    shift[axis] = d_prime * scale[axis]
    for _ in range(repeats):
        fitter = ClassMeanFitter(1)
        draws = torch.randn(4, n, len(scale), generator=random) * scale
        for unsafe in (False, True):
            states = draws[int(unsafe)] + unsafe * shift
            fitter.update(states, unsafe=unsafe, group=torch.zeros(n, dtype=torch.int64))
        results.append(asymptotic_auroc(fitter.result, draws[2], draws[3] + shift))
    return results


def coverage(results: list[AsymptoticAuroc], d_prime: float) -> float:
    truth = stats.norm.cdf(d_prime / 2**0.5)
    return float(np.mean([r.low - 1e-9 <= truth <= r.high + 1e-9 for r in results]))


@pytest.mark.parametrize("d_prime", [0, 1, 2, 3])
def test_interval_holds_the_truth(d_prime: int) -> None:
    """At least 57 of 60 on average; fewer than 53 have a probability of 2 % at 95 %."""
    results = estimates(d_prime, SCALES["isotropic"], 0, n=200, repeats=60, seed=3000 + d_prime)
    assert coverage(results, d_prime) >= 53 / 60
    width = np.mean([r.high - r.low for r in results])
    assert width < {0: 0.25, 1: 0.25, 2: 0.12, 3: 0.06}[d_prime], "an interval says something"


@pytest.mark.slow
@pytest.mark.parametrize("d_prime", [0, 0.25, 0.5, 1, 2, 3])
@pytest.mark.parametrize(
    ("scale", "axis", "n"),
    [("isotropic", 0, 500), ("anisotropic", 10, 500), ("anisotropic", 60, 500), ("isotropic", 0, 60)],
)
def test_interval_holds_the_truth_in_at_least_95_percent(
    d_prime: float, scale: str, axis: int, n: int
) -> None:
    """Of 400, 93 % or more: fewer have a probability of 4 % at 95 %. Axis 10 varies less than most."""
    results = estimates(d_prime, SCALES[scale], axis, n=n, repeats=400, seed=4000)
    assert coverage(results, d_prime) >= 0.93


def test_interval_of_few_requests_is_wide_and_of_many_narrow() -> None:
    few, many = (estimates(1, SCALES["isotropic"], 0, n=n, repeats=10, seed=1000) for n in (30, 2000))
    assert min(r.high - r.low for r in few) > 0.2
    assert max(r.high - r.low for r in many) < 0.05


def test_equal_activations_leave_everything_open() -> None:
    means = ClassMeans(torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    assert asymptotic_auroc(means, gaussian(9, 3, seed=0), gaussian(9, 3, seed=1))[1:] == (0.5, 1.0)
    assert asymptotic_auroc(means, torch.ones(9, 3), torch.ones(9, 3))[1:] == (0.5, 1.0)


@pytest.mark.parametrize("is_isotropic", [True, False])
def test_the_asymptotic_auroc_is_that_of_the_true_means(is_isotropic: bool) -> None:
    """Means of 500 in 64 dimensions, d' = 1 or 2: the AUROC is lower, by the formula of the docstring."""
    random, separation_of_classes = torch.Generator().manual_seed(1000), 1.0 if is_isotropic else 2.0
    scale = torch.ones(64) if is_isotropic else torch.linspace(0.3, 2, 64)
    shift = torch.zeros(64)
    shift[10] = separation_of_classes * scale[10]
    found, corrected = [], []
    for _ in range(30):
        fitter = ClassMeanFitter(1)
        for unsafe in (False, True):
            states = torch.randn(500, 64, generator=random) * scale + unsafe * shift
            fitter.update(states, unsafe=unsafe, group=torch.zeros(500, dtype=torch.int64))
        score = [torch.randn(500, 64, generator=random) * scale + unsafe * shift for unsafe in (0, 1)]
        assert fitter.result.sampling_variance == pytest.approx(2 / 500)
        found.append(separation(fitter.result, *score).auroc)
        corrected.append(asymptotic_auroc(fitter.result, *score).value)
    truth = float(stats.norm.cdf(separation_of_classes / 2**0.5))
    noise = 2 / 500 * scale.pow(4).sum() / (scale[10] ** 2 * shift[10] ** 2)
    expected = float(stats.norm.cdf(separation_of_classes / (2 * (1 + noise)) ** 0.5))
    assert np.mean(found) == pytest.approx(expected, abs=0.01)
    assert expected < truth - 0.02
    assert np.mean([value for value in corrected if value is not None]) == pytest.approx(truth, abs=0.02)


def test_exact_means_need_no_correction() -> None:
    means = ClassMeans(torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64))
    safe, unsafe = gaussian(200, 4, seed=0), gaussian(200, 4, seed=1) + 1
    result = separation(means, safe, unsafe).auroc
    assert asymptotic_auroc(means, safe, unsafe).value == pytest.approx(result, abs=1e-9)
    assert asymptotic_auroc(means, safe, unsafe + 100).value == 1
