"""Streamed moments against numpy, scikit-learn and a loop in float64, in any order and batch size."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import EmpiricalCovariance
from torch import Tensor

from makebreak.geometry import MomentFitter, Moments


def vectors(n: int, seed: int = 0) -> Tensor:
    """Vectors of unequal variances, far from zero, so that cancellation would show."""
    normal = torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))
    return normal @ torch.diag(torch.tensor([3.0, 1.0, 0.5, 0.1, 0.0])) + 1000.0


def fitted(batches: list[Tensor]) -> Moments:
    fitter = MomentFitter()
    for batch in batches:
        fitter.update(batch)
    return fitter.result


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=5), seed=st.integers(0, 100))
def test_batches_and_order_change_nothing(cuts: list[int], seed: int) -> None:
    """Any batches, and the reversed order, give scikit-learn's mean and covariance."""
    x = vectors(60, seed)
    ends = [0, *sorted(cuts), 60]
    streamed = fitted([x[a:b] for a, b in itertools.pairwise(ends)])
    reversed_order = fitted([x.flip(0)])
    expected = EmpiricalCovariance().fit(x.double().numpy())
    for moments in (streamed, reversed_order):
        assert moments.n == 60
        assert np.allclose(moments.mean, expected.location_, atol=1e-9)
        assert np.allclose(moments.covariance, expected.covariance_, atol=1e-8)
        assert np.allclose(moments.second_moment, (x.double().T @ x.double() / 60), rtol=1e-12)


def test_single_vectors_are_a_float64_loop() -> None:
    """Batches of one vector give the moments of an explicit loop; the covariance is symmetric."""
    x = vectors(30)
    mean = sum(row.double() for row in x) / 30
    scatter = sum(torch.outer(row.double() - mean, row.double() - mean) for row in x) / 30
    moments = fitted(list(x.split(1)))
    assert torch.allclose(moments.mean, mean, atol=1e-9)
    assert torch.allclose(moments.covariance, scatter, atol=1e-9)
    assert torch.equal(moments.covariance, moments.covariance.T)


def test_no_vectors_and_another_width_are_errors() -> None:
    with pytest.raises(ValueError, match="moments of no vectors are undefined"):
        fitted([torch.zeros(0, 5)])
    with pytest.raises(ValueError, match="vectors of width 4: expected 5"):
        fitted([vectors(3), vectors(3)[:, :4]])
