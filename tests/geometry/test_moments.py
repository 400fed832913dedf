"""Is a streamed moment the one of all vectors at once, in any order and batch, as numpy and scikit-learn have it?"""

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
    random = torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))
    return (
        random @ torch.diag(torch.tensor([3.0, 1.0, 0.5, 0.1, 0.0])) + 1000.0
    )  # far from zero: no cancellation


def fitted(parts: list[Tensor]) -> Moments:
    fitter = MomentFitter()
    for part in parts:
        fitter.update(part)
    return fitter.result


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=5), seed=st.integers(0, 100))
def test_batches_and_order_change_nothing(cuts: list[int], seed: int) -> None:
    x = vectors(60, seed)
    ends = [0, *sorted(cuts), 60]
    streamed = fitted([x[a:b] for a, b in itertools.pairwise(ends)])
    turned = fitted([x.flip(0)])
    expected = EmpiricalCovariance().fit(x.double().numpy())
    for found in (streamed, turned):
        assert found.n == 60
        assert np.allclose(found.mean, expected.location_, atol=1e-9)
        assert np.allclose(found.covariance, expected.covariance_, atol=1e-8)
        assert np.allclose(found.second, (x.double().T @ x.double() / 60), rtol=1e-12)


def test_one_by_one_is_a_loop_in_float64() -> None:
    x = vectors(30)
    mean = sum(row.double() for row in x) / 30
    scatter = sum(torch.outer(row.double() - mean, row.double() - mean) for row in x) / 30
    found = fitted(list(x.split(1)))
    assert torch.allclose(found.mean, mean, atol=1e-9)
    assert torch.allclose(found.covariance, scatter, atol=1e-9)
    assert torch.equal(found.covariance, found.covariance.T)


def test_nothing_and_another_width_are_errors() -> None:
    with pytest.raises(ValueError, match="moments of no vectors are undefined"):
        fitted([torch.zeros(0, 5)])
    with pytest.raises(ValueError, match="vectors of width 4: expected 5"):
        fitted([vectors(3), vectors(3)[:, :4]])
