"""Are the means of safe and unsafe activations right, and does τ part what is apart and nothing else?"""

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

from makebreak.geometry import ClusterMeans, Clusters, separation


def gaussian(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fitted(
    safe: Tensor, unsafe: Tensor, groups: tuple[Tensor, Tensor], n_groups: int, size: int = 10**6
) -> Clusters:
    means = ClusterMeans(n_groups)
    for kind, (a, group) in enumerate(zip((safe, unsafe), groups, strict=True)):
        for rows, of in zip(a.split(size), group.split(size), strict=True):
            means.update(rows, unsafe=bool(kind), group=of)
    return means.result


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_streaming_is_one_shot_is_the_float64_mean_of_group_means(
    seed: int, size: int, n_groups: int
) -> None:
    safe, unsafe = gaussian(23, 5, seed=seed).float(), gaussian(17, 5, seed=seed + 1).float()
    draw = torch.Generator().manual_seed(seed)
    groups = tuple(
        torch.cat([torch.arange(n_groups), torch.randint(n_groups, (len(a) - n_groups,), generator=draw)])
        for a in (safe, unsafe)
    )
    found = fitted(safe, unsafe, groups, n_groups, size)
    for mean, a, group in ((found.safe, safe, groups[0]), (found.unsafe, unsafe, groups[1])):
        by_group = [a.numpy().astype(np.float64)[group.numpy() == g].mean(axis=0) for g in range(n_groups)]
        assert np.allclose(mean.numpy(), np.mean(by_group, axis=0), atol=1e-12, rtol=0)
    assert found.distance == pytest.approx(
        float((found.safe - found.unsafe).square().sum().sqrt()), abs=1e-12
    )


def test_on_balanced_data_the_means_and_signs_are_nearest_centroid() -> None:
    safe, unsafe = gaussian(60, 4, seed=0), gaussian(60, 4, seed=1) + 0.7
    group = torch.arange(60) % 3
    found = fitted(safe, unsafe, (group, group), 3)
    model = NearestCentroid().fit(torch.cat([safe, unsafe]).numpy(), [0] * 60 + [1] * 60)
    assert np.allclose(torch.stack([found.safe, found.unsafe]).numpy(), model.centroids_, atol=1e-12)
    others = gaussian(200, 4, seed=2) + 0.35
    assert ((found.tau(others) < 0).numpy() == (model.predict(others.numpy()) == 1)).all()


def test_every_group_weighs_the_same_however_many_it_has() -> None:
    """Group 0 at 0 with 99 rows, group 1 at 1 with one: the mean is 1/2, not 1/100."""
    group = torch.tensor([0] * 99 + [1])
    found = fitted(group[:, None].double(), 5 + group[:, None].double(), (group, group), 2)
    assert (found.safe.item(), found.unsafe.item()) == (0.5, 5.5)


def test_a_missing_group_or_kind_is_an_error() -> None:
    means = ClusterMeans(2)
    with pytest.raises(ValueError, match=r"\[\[0, 0\], \[0, 0\]\]"):
        _ = means.result
    means.update(torch.ones(4, 3), unsafe=False, group=torch.tensor([0, 0, 1, 1]))
    means.update(torch.ones(2, 3), unsafe=True, group=torch.tensor([1, 1]))
    with pytest.raises(ValueError, match=r"\[\[2, 2\], \[0, 2\]\]; expected none to be 0"):
        _ = means.result
    means.update(torch.ones(1, 3), unsafe=True, group=torch.tensor([0]))
    assert means.result.distance == 0


@given(st.integers(0, 10**6), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_tau_is_positive_on_the_safe_side_and_bounded_by_the_distance(seed: int, d: int) -> None:
    clusters = Clusters(gaussian(d, seed=seed), gaussian(d, seed=seed + 1))
    points = 3 * gaussian(50, d, seed=seed + 2)
    tau = clusters.tau(points)
    assert (tau.abs() <= clusters.distance + 1e-9).all()
    for point, value in zip(points.numpy(), tau.tolist(), strict=True):
        by_hand = np.linalg.norm(point - clusters.unsafe.numpy()) - np.linalg.norm(
            point - clusters.safe.numpy()
        )
        assert value == pytest.approx(by_hand, abs=1e-9)
    at_means = clusters.tau(torch.stack([clusters.safe, clusters.unsafe]))
    assert at_means.tolist() == pytest.approx([clusters.distance, -clusters.distance], abs=1e-9)


def test_far_small_clusters_separate_perfectly() -> None:
    away = torch.tensor([100.0, 0, 0, 0], dtype=torch.float64)
    means = Clusters(safe=torch.zeros(4, dtype=torch.float64), unsafe=away)
    found = separation(means, 0.01 * gaussian(50, 4, seed=0), away + 0.01 * gaussian(50, 4, seed=1))
    assert found.auroc == 1.0
    assert found.normalised == pytest.approx(2, abs=1e-3)
    assert found.gap == pytest.approx(200, abs=0.1)
    assert (found.tau_safe, found.tau_unsafe) == pytest.approx((100, -100), abs=0.1)
    swapped = separation(means, away + 0.01 * gaussian(50, 4, seed=0), 0.01 * gaussian(50, 4, seed=1))
    assert (swapped.auroc, swapped.normalised) == (0.0, pytest.approx(-2, abs=1e-3))


def test_identical_distributions_do_not_separate() -> None:
    """Held-out draws of one distribution: AUROC 1/2 and gap 0, each within five standard errors."""
    n, d = 400, 6
    group = torch.zeros(n, dtype=torch.int64)
    clusters = fitted(gaussian(n, d, seed=0), gaussian(n, d, seed=1), (group, group), 1)
    safe, unsafe = gaussian(n, d, seed=2), gaussian(n, d, seed=3)
    found = separation(clusters, safe, unsafe)
    spread = torch.cat([clusters.tau(safe), clusters.tau(unsafe)]).std() / clusters.distance
    assert found.normalised is not None
    assert abs(found.normalised) < 5 * float(spread) * math.sqrt(2 / n)
    assert abs(found.auroc - 0.5) < 5 * math.sqrt((2 * n + 1) / (12 * n * n))


def test_a_planted_shift_is_measured_as_sklearn_measures_it() -> None:
    n, d = 400, 6
    group = torch.zeros(n, dtype=torch.int64)
    clusters = fitted(gaussian(n, d, seed=0), gaussian(n, d, seed=1) + 1, (group, group), 1)
    safe, unsafe = gaussian(n, d, seed=2), gaussian(n, d, seed=3) + 1
    found = separation(clusters, safe, unsafe)
    tau = torch.cat([clusters.tau(safe), clusters.tau(unsafe)])
    assert found.auroc == pytest.approx(roc_auc_score([1] * n + [0] * n, tau.numpy()), abs=1e-12)
    expected = float(
        stats.norm.cdf(math.sqrt(d / 2))
    )  # of two unit normals √d apart, along the line of their means
    assert abs(found.auroc - expected) < 5 * math.sqrt(expected * (1 - expected) / n)
    assert found.gap == pytest.approx(found.tau_safe - found.tau_unsafe, abs=1e-12)
    assert found.normalised == pytest.approx(found.gap / clusters.distance, abs=1e-12)


def test_equal_means_have_no_normalised_gap() -> None:
    origin = torch.zeros(3, dtype=torch.float64)
    found = separation(Clusters(origin, origin), gaussian(5, 3, seed=0), gaussian(5, 3, seed=1))
    assert (found.gap, found.normalised, found.auroc) == (0.0, None, 0.5)
