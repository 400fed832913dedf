"""Column spaces and left null spaces of planted matrices, and shares of vectors in them."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from makebreak.geometry import (
    Subspace,
    column_space,
    left_null_space,
    output_spaces,
    random_subspace,
    subspace_share,
)
from makebreak.geometry.subspaces import rank


def gaussian(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    d_out, d_in = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    return d_out, d_in, draw(st.integers(1, min(d_out, d_in))), draw(st.integers(0, 10**6))


def planted(d_out: int, d_in: int, k: int, seed: int) -> Tensor:
    """A matrix of rank k whose k singular values lie between 1 and 2."""
    left = torch.linalg.qr(gaussian(d_out, k, seed=seed)).Q
    right = torch.linalg.qr(gaussian(d_in, k, seed=seed + 1)).Q
    return left * torch.linspace(1, 2, k, dtype=torch.float64) @ right.T


@given(shapes())
@settings(max_examples=60, deadline=None)
def test_planted_spaces_are_complements(shape: tuple[int, int, int, int]) -> None:
    """Both spaces have the planted dimension, and together they are an orthonormal basis of the outputs."""
    d_out, d_in, k, seed = shape
    w = planted(d_out, d_in, k, seed)
    column, null = column_space(w), left_null_space(w)
    assert (column.dimension, null.dimension) == (k, d_out - k)
    assert (column.chance, null.chance) == (k / d_out, (d_out - k) / d_out)
    both = torch.cat([column.basis, null.basis], dim=1)
    assert torch.allclose(both.T @ both, torch.eye(d_out, dtype=torch.float64), atol=1e-10)
    assert torch.allclose(w.T @ null.basis, torch.zeros(d_in, d_out - k, dtype=torch.float64), atol=1e-10)
    assert torch.allclose(column.basis @ (column.basis.T @ w), w, atol=1e-10)


@given(shapes())
@settings(max_examples=60, deadline=None)
def test_shares_are_pythagorean(shape: tuple[int, int, int, int]) -> None:
    """A share is 1 for vectors inside, 0 outside, and the shares in complementary spaces add up to 1."""
    d_out, d_in, k, seed = shape
    w = planted(d_out, d_in, k, seed)
    column, null = column_space(w), left_null_space(w)
    one = torch.ones(5, dtype=torch.float64)
    inside = (w @ gaussian(d_in, 5, seed=seed + 2)).T
    assert torch.allclose(subspace_share(inside, column), one, atol=1e-10)
    if k == d_out:
        assert subspace_share(inside, null) is None
        return
    assert torch.allclose(subspace_share(inside, null), 0 * one, atol=1e-10)
    outside = gaussian(5, d_out, seed=seed + 3)
    outside -= outside @ column.basis @ column.basis.T
    assert torch.allclose(subspace_share(outside, null), one, atol=1e-8)
    mixed = gaussian(5, d_out, seed=seed + 4)
    total = subspace_share(mixed, null) + subspace_share(mixed, column)
    assert torch.allclose(total, one, atol=1e-10)


def test_left_null_space_is_not_the_right_one() -> None:
    w = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    null = left_null_space(w)
    assert null.basis.abs().tolist() == [[0.0], [0.0], [1.0]]
    assert left_null_space(w.T).dimension == 0


def test_share_by_hand_for_any_length() -> None:
    z = torch.tensor([[3.0, 4.0, 0.0], [30.0, 40.0, 0.0], [0.0, 0.0, 7.0]])
    plane = Subspace(torch.eye(3, dtype=torch.float64)[:, 1:])
    assert subspace_share(z, plane).tolist() == pytest.approx([0.64, 0.64, 1.0], abs=1e-12)


def test_rank_depends_on_the_dtype() -> None:
    """Rounding in float32 adds no rank to a product; a direction of 1e-9 counts in float64 only."""
    left, right = gaussian(40, 5, seed=0).float(), gaussian(5, 30, seed=1).float()
    assert left_null_space(left @ right).dimension == 35
    faint = torch.diag(torch.tensor([1.0, 1e-9, 0.0], dtype=torch.float64))
    assert left_null_space(faint).dimension == 1
    assert left_null_space(faint.float()).dimension == 2


@given(shapes())
@settings(max_examples=40, deadline=None)
def test_energy90_is_the_fewest_directions(shape: tuple[int, int, int, int]) -> None:
    """The rule `energy90` counts the fewest directions that hold 90 % of numpy's Σσ²."""
    d_out, d_in, _, seed = shape
    w = gaussian(d_out, d_in, seed=seed)
    energy = np.cumsum(np.linalg.svd(w.numpy(), compute_uv=False) ** 2)
    fewest = next(i for i, e in enumerate(energy, start=1) if e >= 0.9 * energy[-1])
    assert column_space(w, "energy90").dimension == fewest
    assert left_null_space(w, "energy90").dimension == d_out - fewest


@pytest.mark.parametrize(
    ("values", "k"), [([3.0, 1.0, 0.0], 1), ([2.9, 1.0, 0.0], 2), ([1.0, 1.0, 1.0], 3), ([9.0, 2.9, 1.0], 2)]
)
def test_energy90_by_hand(values: list[float], k: int) -> None:
    """9 of 10 is 90 %, 8.41 of 9.41 is 89 %: energies are squares."""
    assert column_space(torch.diag(torch.tensor(values, dtype=torch.float64)), "energy90").dimension == k


def test_unknown_rank_rule_is_an_error() -> None:
    with pytest.raises(ValueError, match="rank rule 'energy95': expected 'exact' or 'energy90'"):
        inspect.unwrap(rank)(torch.ones(2), "energy95", (2, 2))  # unwrapped: type checks would come first


def test_undefined_share_is_an_error_or_none() -> None:
    space = random_subspace(4, 2, seed=0)
    with pytest.raises(ValueError, match="vectors of width 3: expected 4"):
        subspace_share(torch.ones(2, 3), space)
    with pytest.raises(ValueError, match="1 of 2 vectors are zero"):
        subspace_share(torch.tensor([[0.0, 0, 0, 0], [1, 0, 0, 0]]), space)
    assert subspace_share(torch.ones(2, 4), Subspace(torch.zeros(4, 0, dtype=torch.float64))) is None


@pytest.mark.parametrize(("d", "k"), [(12, 3), (30, 25), (7, 1)])
def test_random_subspace_share_is_chance(d: int, k: int) -> None:
    """The basis is orthonormal; the mean share is k / d over random vectors and over random subspaces."""
    space = random_subspace(d, k, seed=3)
    assert torch.allclose(space.basis.T @ space.basis, torch.eye(k, dtype=torch.float64), atol=1e-12)
    assert space.chance == k / d
    over_vectors = subspace_share(gaussian(4000, d, seed=5), space)
    axis = torch.eye(d)[:1]
    over_subspaces = torch.cat([subspace_share(axis, random_subspace(d, k, seed)) for seed in range(600)])
    spread = math.sqrt(2 * k * (d - k) / (d**2 * (d + 2)))  # of Beta(k/2, (d-k)/2)
    assert abs(float(over_vectors.mean()) - k / d) < 5 * spread / math.sqrt(4000)
    assert abs(float(over_subspaces.mean()) - k / d) < 5 * spread / math.sqrt(600)


def test_random_subspace_depends_on_its_seed_only() -> None:
    assert torch.equal(random_subspace(6, 2, 1).basis, random_subspace(6, 2, 1).basis)
    overlap = random_subspace(6, 2, 1).basis.T @ random_subspace(6, 2, 2).basis
    assert overlap.square().sum() < 1.9


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (20, 20)])
def test_output_spaces_are_the_separate_spaces(shape: tuple[int, int]) -> None:
    """One decomposition gives the same three subspaces as the functions of one subspace each."""
    w = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    spaces = output_spaces(w)
    for joint, separate in (
        (spaces.left_null, left_null_space(w)),
        (spaces.left_null90, left_null_space(w, "energy90")),
        (spaces.column90, column_space(w, "energy90")),
    ):
        assert joint.dimension == separate.dimension
        assert torch.allclose(joint.basis @ joint.basis.T, separate.basis @ separate.basis.T, atol=1e-10)
