"""Class means against numpy and scikit-learn; τ and separation on planted and on identical means."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestCentroid
from torch import Tensor

from makebreak.geometry import ClassMeanFitter, ClassMeans, separation


def gaussian(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fitted(
    safe: Tensor, unsafe: Tensor, groups: tuple[Tensor, Tensor], n_groups: int, size: int = 10**6
) -> ClassMeans:
    fitter = ClassMeanFitter(n_groups)
    for label, (activations, group) in enumerate(zip((safe, unsafe), groups, strict=True)):
        for batch, batch_group in zip(activations.split(size), group.split(size), strict=True):
            fitter.update(batch, unsafe=bool(label), group=batch_group)
    return fitter.result


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_streamed_means_are_means_of_group_means(seed: int, size: int, n_groups: int) -> None:
    """Batches of any size give the float64 mean of the group means, and its distance."""
    safe, unsafe = gaussian(23, 5, seed=seed).float(), gaussian(17, 5, seed=seed + 1).float()
    generator = torch.Generator().manual_seed(seed)
    groups = tuple(
        torch.cat(
            [torch.arange(n_groups), torch.randint(n_groups, (len(a) - n_groups,), generator=generator)]
        )
        for a in (safe, unsafe)
    )
    means = fitted(safe, unsafe, groups, n_groups, size)
    for mean, a, group in ((means.safe, safe, groups[0]), (means.unsafe, unsafe, groups[1])):
        by_group = [a.numpy().astype(np.float64)[group.numpy() == g].mean(axis=0) for g in range(n_groups)]
        assert np.allclose(mean.numpy(), np.mean(by_group, axis=0), atol=1e-12, rtol=0)
    assert means.distance == pytest.approx(
        float((means.safe - means.unsafe).square().sum().sqrt()), abs=1e-12
    )


def test_balanced_means_are_those_of_nearest_centroid() -> None:
    """On balanced data the means are scikit-learn's centroids, and the sign of τ its prediction."""
    safe, unsafe = gaussian(60, 4, seed=0), gaussian(60, 4, seed=1) + 0.7
    group = torch.arange(60) % 3
    means = fitted(safe, unsafe, (group, group), 3)
    model = NearestCentroid().fit(torch.cat([safe, unsafe]).numpy(), [0] * 60 + [1] * 60)
    assert np.allclose(torch.stack([means.safe, means.unsafe]).numpy(), model.centroids_, atol=1e-12)
    held_out = gaussian(200, 4, seed=2) + 0.35
    assert ((means.tau(held_out) < 0).numpy() == (model.predict(held_out.numpy()) == 1)).all()


def test_groups_have_equal_weight() -> None:
    """Group 0 at 0 with 99 rows, group 1 at 1 with one: the mean is 1/2, not 1/100."""
    group = torch.tensor([0] * 99 + [1])
    means = fitted(group[:, None].double(), 5 + group[:, None].double(), (group, group), 2)
    assert (means.safe.item(), means.unsafe.item()) == (0.5, 5.5)


def test_missing_group_or_class_is_an_error() -> None:
    """The error gives the counts by class and group."""
    fitter = ClassMeanFitter(2)
    with pytest.raises(ValueError, match=r"\[\[0, 0\], \[0, 0\]\]"):
        _ = fitter.result
    fitter.update(torch.ones(4, 3), unsafe=False, group=torch.tensor([0, 0, 1, 1]))
    fitter.update(torch.ones(2, 3), unsafe=True, group=torch.tensor([1, 1]))
    with pytest.raises(ValueError, match=r"\[\[2, 2\], \[0, 2\]\]; expected none to be 0"):
        _ = fitter.result
    fitter.update(torch.ones(1, 3), unsafe=True, group=torch.tensor([0]))
    assert fitter.result.distance == 0


@given(st.integers(0, 10**6), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_tau_is_signed_and_bounded(seed: int, d: int) -> None:
    """τ is ± the distance at the class means and lies between these values everywhere."""
    means = ClassMeans(gaussian(d, seed=seed), gaussian(d, seed=seed + 1))
    points = 3 * gaussian(50, d, seed=seed + 2)
    tau = means.tau(points)
    assert (tau.abs() <= means.distance + 1e-9).all()
    for point, value in zip(points.numpy(), tau.tolist(), strict=True):
        by_hand = np.linalg.norm(point - means.unsafe.numpy()) - np.linalg.norm(point - means.safe.numpy())
        assert value == pytest.approx(by_hand, abs=1e-9)
    at_means = means.tau(torch.stack([means.safe, means.unsafe]))
    assert at_means.tolist() == pytest.approx([means.distance, -means.distance], abs=1e-9)


def test_distant_means_separate_perfectly() -> None:
    shift = torch.tensor([100.0, 0, 0, 0], dtype=torch.float64)
    means = ClassMeans(safe=torch.zeros(4, dtype=torch.float64), unsafe=shift)
    separated = separation(means, 0.01 * gaussian(50, 4, seed=0), shift + 0.01 * gaussian(50, 4, seed=1))
    assert separated.auroc == 1.0
    assert separated.normalised == pytest.approx(2, abs=1e-3)
    assert separated.gap == pytest.approx(200, abs=0.1)
    assert (separated.tau_safe, separated.tau_unsafe) == pytest.approx((100, -100), abs=0.1)
    swapped = separation(means, shift + 0.01 * gaussian(50, 4, seed=0), 0.01 * gaussian(50, 4, seed=1))
    assert (swapped.auroc, swapped.normalised) == (0.0, pytest.approx(-2, abs=1e-3))


def test_identical_distributions_do_not_separate() -> None:
    """Held-out draws of one distribution: AUROC 1/2 and gap 0, each within five standard errors."""
    n, d = 400, 6
    group = torch.zeros(n, dtype=torch.int64)
    means = fitted(gaussian(n, d, seed=0), gaussian(n, d, seed=1), (group, group), 1)
    safe, unsafe = gaussian(n, d, seed=2), gaussian(n, d, seed=3)
    result = separation(means, safe, unsafe)
    spread = torch.cat([means.tau(safe), means.tau(unsafe)]).std() / means.distance
    assert result.normalised is not None
    assert abs(result.normalised) < 5 * float(spread) * math.sqrt(2 / n)
    assert abs(result.auroc - 0.5) < 5 * math.sqrt((2 * n + 1) / (12 * n * n))


def test_planted_shift_has_the_expected_auroc() -> None:
    """AUROC is scikit-learn's, and Φ(√(d/2)) for unit normals whose means are √d apart, along their line."""
    n, d = 400, 6
    group = torch.zeros(n, dtype=torch.int64)
    means = fitted(gaussian(n, d, seed=0), gaussian(n, d, seed=1) + 1, (group, group), 1)
    safe, unsafe = gaussian(n, d, seed=2), gaussian(n, d, seed=3) + 1
    result = separation(means, safe, unsafe)
    tau = torch.cat([means.tau(safe), means.tau(unsafe)])
    assert result.auroc == pytest.approx(roc_auc_score([1] * n + [0] * n, tau.numpy()), abs=1e-12)
    expected = float(stats.norm.cdf(math.sqrt(d / 2)))
    assert abs(result.auroc - expected) < 5 * math.sqrt(expected * (1 - expected) / n)
    assert result.gap == pytest.approx(result.tau_safe - result.tau_unsafe, abs=1e-12)
    assert result.normalised == pytest.approx(result.gap / means.distance, abs=1e-12)


def test_equal_means_have_no_normalised_gap() -> None:
    origin = torch.zeros(3, dtype=torch.float64)
    result = separation(ClassMeans(origin, origin), gaussian(5, 3, seed=0), gaussian(5, 3, seed=1))
    assert (result.gap, result.normalised, result.auroc) == (0.0, None, 0.5)
