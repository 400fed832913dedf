"""Are a matrix's column space and left null space found as planted, and is a vector's share of them exact?"""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from makebreak.geometry import Subspace, column_space, left_null_space, output_spaces, random_subspace, share
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
def test_planted_rank_is_found_and_the_spaces_are_complements(drawn: tuple[int, int, int, int]) -> None:
    d_out, d_in, k, seed = drawn
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
def test_share_is_one_inside_zero_outside_and_pythagorean(drawn: tuple[int, int, int, int]) -> None:
    d_out, d_in, k, seed = drawn
    w = planted(d_out, d_in, k, seed)
    written = (w @ gaussian(d_in, 5, seed=seed + 2)).T
    assert torch.allclose(share(written, column_space(w)), torch.ones(5, dtype=torch.float64), atol=1e-10)
    null = left_null_space(w)
    if k == d_out:
        assert share(written, null) is None
        return
    assert torch.allclose(share(written, null), torch.zeros(5, dtype=torch.float64), atol=1e-10)
    away = gaussian(5, d_out, seed=seed + 3)
    away -= away @ column_space(w).basis @ column_space(w).basis.T
    assert torch.allclose(share(away, null), torch.ones(5, dtype=torch.float64), atol=1e-8)
    mixed = gaussian(5, d_out, seed=seed + 4)
    total = share(mixed, null) + share(mixed, column_space(w))
    assert torch.allclose(total, torch.ones(5, dtype=torch.float64), atol=1e-10)


def test_left_null_space_is_not_the_right_one() -> None:
    w = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    null = left_null_space(w)
    assert null.basis.abs().tolist() == [[0.0], [0.0], [1.0]]
    assert left_null_space(w.T).dimension == 0


def test_share_by_hand_whatever_the_length() -> None:
    z = torch.tensor([[3.0, 4.0, 0.0], [30.0, 40.0, 0.0], [0.0, 0.0, 7.0]])
    plane = Subspace(torch.eye(3, dtype=torch.float64)[:, 1:])
    assert share(z, plane).tolist() == pytest.approx([0.64, 0.64, 1.0], abs=1e-12)


def test_rank_is_that_of_the_dtype() -> None:
    """A product in float32 keeps its rank though rounding fills the rest; a true float64 direction of 1e-9 counts."""
    left, right = gaussian(40, 5, seed=0).float(), gaussian(5, 30, seed=1).float()
    assert left_null_space(left @ right).dimension == 35
    faint = torch.diag(torch.tensor([1.0, 1e-9, 0.0], dtype=torch.float64))
    assert left_null_space(faint).dimension == 1
    assert left_null_space(faint.float()).dimension == 2


@given(shapes())
@settings(max_examples=40, deadline=None)
def test_energy90_is_the_fewest_directions_with_90_percent(drawn: tuple[int, int, int, int]) -> None:
    d_out, d_in, _, seed = drawn
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


def test_another_rule_is_an_error() -> None:
    with pytest.raises(ValueError, match="rank rule 'energy95': expected 'exact' or 'energy90'"):
        inspect.unwrap(rank)(torch.ones(2), "energy95", (2, 2))  # unwrapped: type checks would come first


def test_share_refuses_what_is_undefined() -> None:
    space = random_subspace(4, 2, seed=0)
    with pytest.raises(ValueError, match="vectors of width 3: expected 4"):
        share(torch.ones(2, 3), space)
    with pytest.raises(ValueError, match="1 of 2 vectors are zero"):
        share(torch.tensor([[0.0, 0, 0, 0], [1, 0, 0, 0]]), space)
    assert share(torch.ones(2, 4), Subspace(torch.zeros(4, 0, dtype=torch.float64))) is None


@pytest.mark.parametrize(("d", "k"), [(12, 3), (30, 25), (7, 1)])
def test_random_subspace_is_orthonormal_and_catches_its_chance(d: int, k: int) -> None:
    """Mean share of random directions is k / d; over one subspace and over many, where Haar makes it so too."""
    space = random_subspace(d, k, seed=3)
    assert torch.allclose(space.basis.T @ space.basis, torch.eye(k, dtype=torch.float64), atol=1e-12)
    assert space.chance == k / d
    one = share(gaussian(4000, d, seed=5), space)
    axis = torch.eye(d)[:1]
    many = torch.cat([share(axis, random_subspace(d, k, seed)) for seed in range(600)])
    spread = math.sqrt(2 * k * (d - k) / (d**2 * (d + 2)))  # of Beta(k/2, (d-k)/2)
    assert abs(float(one.mean()) - k / d) < 5 * spread / math.sqrt(4000)
    assert abs(float(many.mean()) - k / d) < 5 * spread / math.sqrt(600)


def test_random_subspace_depends_on_its_seed_only() -> None:
    assert torch.equal(random_subspace(6, 2, 1).basis, random_subspace(6, 2, 1).basis)
    overlap = random_subspace(6, 2, 1).basis.T @ random_subspace(6, 2, 2).basis
    assert overlap.square().sum() < 1.9


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (20, 20)])
def test_one_decomposition_gives_all_spaces_of_what_a_matrix_writes(shape: tuple[int, int]) -> None:
    w = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    found = output_spaces(w)
    for own, other in (
        (found.null, left_null_space(w)),
        (found.null90, left_null_space(w, "energy90")),
        (found.column90, column_space(w, "energy90")),
    ):
        assert own.dimension == other.dimension
        assert torch.allclose(own.basis @ own.basis.T, other.basis @ other.basis.T, atol=1e-10)
