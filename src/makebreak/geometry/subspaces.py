"""Column spaces and left null spaces of weight matrices, and the share of a vector's energy in a subspace.

Weight matrices are (d_out, d_in); their column space and left null space are subspaces of the outputs,
R^d_out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

RankRule = Literal["exact", "energy90"]
"""Rule for the rank of a matrix: numerical rank, or the fewest singular directions with 90 % of Σσ²."""


@dataclass(frozen=True)
class Subspace:
    """Linear subspace of R^d, given by an orthonormal basis."""

    basis: Float[Tensor, "d k"]
    """Orthonormal columns that span the subspace; k is its dimension and may be 0."""

    @property
    def dimension(self) -> int:
        """Dimension k of the subspace."""
        return self.basis.shape[1]

    @property
    def chance(self) -> float:
        """Expected share of a random vector's energy in the subspace, k / d."""
        return self.dimension / self.basis.shape[0]


def rank(singular_values: Float[Tensor, " k"], rule: RankRule, shape: tuple[int, int]) -> int:
    """Rank of a matrix from its singular values.

    Args:
        singular_values: All singular values of the matrix.
        rule: `exact` counts singular values above the rounding error of their dtype (that of
            `numpy.linalg.matrix_rank`); `energy90` counts the fewest directions that hold 90 % of Σσ².
        shape: Shape of the matrix, which sets the rounding error.

    Returns:
        The number of singular directions that count.

    Raises:
        ValueError: If the rule is unknown.
    """
    if rule == "exact":
        tolerance = singular_values.max() * max(shape) * torch.finfo(singular_values.dtype).eps
        return int((singular_values > tolerance).sum())
    if rule == "energy90":
        return energy_rank(singular_values)
    raise ValueError(f"rank rule {rule!r}: expected 'exact' or 'energy90'")


def energy_rank(singular_values: Float[Tensor, " k"], share: float = 0.9) -> int:
    """Fewest leading singular directions that hold a share of the energy Σσ²; 0 if all singular values are 0.

    Args:
        singular_values: Singular values, descending.
        share: Share of the energy, between 0 and 1.

    Returns:
        The number of directions.
    """
    energy = singular_values.square().cumsum(0)
    return int((energy < share * energy[-1]).sum()) + 1 if energy[-1] > 0 else 0


class OutputSpaces(NamedTuple):
    """Subspaces of one matrix's outputs, from one singular value decomposition."""

    left_null: Subspace
    """Left null space by numerical rank: output directions that the matrix cannot produce."""
    left_null90: Subspace
    """Left null space by the rule `energy90`: output directions outside those with 90 % of Σσ²."""
    column90: Subspace
    """Column space by the rule `energy90`: leading output directions, with 90 % of Σσ²."""


def output_spaces(matrix: Float[Tensor, "d_out d_in"]) -> OutputSpaces:
    """Left null spaces by both rank rules and the column space by `energy90`, from one decomposition."""
    left, values = _left(matrix, full_matrices=True)
    exact = _rank(values, "exact", matrix)
    energy90 = _rank(values, "energy90", matrix)
    return OutputSpaces(
        left_null=Subspace(left[:, exact:]),
        left_null90=Subspace(left[:, energy90:]),
        column90=Subspace(left[:, :energy90]),
    )


def _left(matrix: Tensor, *, full_matrices: bool) -> tuple[Tensor, Tensor]:
    """Left singular vectors and singular values, float64; all d_out vectors if `full_matrices`."""
    left, values, _ = torch.linalg.svd(matrix.double(), full_matrices=full_matrices)
    return left, values


def _rank(values: Tensor, rule: RankRule, matrix: Tensor) -> int:
    """Rank with the rounding error of the matrix's own dtype."""
    return rank(values.to(matrix.dtype), rule, (matrix.shape[0], matrix.shape[1]))


def column_space(matrix: Float[Tensor, "d_out d_in"], rule: RankRule = "exact") -> Subspace:
    """Column space of a matrix: the span of its leading left singular vectors, float64.

    Args:
        matrix: A weight matrix W.
        rule: `exact` takes all directions up to the numerical rank; `energy90` the fewest with 90 % of Σσ².

    Returns:
        The subspace of outputs that the matrix can produce (`exact`) or mostly produces (`energy90`).
    """
    if rule == "energy90":
        return Subspace(_leading(matrix.double()))
    left, values = _left(matrix, full_matrices=False)
    return Subspace(left[:, : _rank(values, rule, matrix)])


def squared_singular_values(matrix: Float[Tensor, "d_out d_in"]) -> Float[Tensor, " k"]:
    """Squared singular values, descending, float64, accurate to the rounding error of the largest one."""
    return _gram(matrix.double())[0]


def _leading(matrix: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "d_out k"]:
    """Left singular vectors with 90 % of Σσ²; squaring loses accuracy only in far smaller directions."""
    energy, vectors = _gram(matrix)
    k = energy_rank(energy.sqrt())
    return vectors[:, :k] if len(matrix) <= matrix.shape[1] else (matrix @ vectors[:, :k]) / energy[:k].sqrt()


def _gram(matrix: Float[Tensor, "d_out d_in"]) -> tuple[Float[Tensor, " k"], Float[Tensor, "k k"]]:
    """σ², descending, and the smaller side's singular vectors; about four times as fast as an SVD."""
    gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    energy, vectors = torch.linalg.eigh(gram)
    return energy.flip(0).clamp(min=0), vectors.flip(1)


def left_null_space(matrix: Float[Tensor, "d_out d_in"], rule: RankRule = "exact") -> Subspace:
    """Left null space of a matrix, {v : vᵀW = 0}: the orthogonal complement of its column space, float64.

    Args:
        matrix: A weight matrix W.
        rule: `exact` takes the complement of all directions up to the numerical rank; `energy90` the
            complement of the fewest with 90 % of Σσ².

    Returns:
        The subspace of outputs that the matrix cannot produce (`exact`) or hardly produces (`energy90`).
    """
    left, values = _left(matrix, full_matrices=matrix.shape[0] > matrix.shape[1])
    return Subspace(left[:, _rank(values, rule, matrix) :])


def random_subspace(d: int, k: int, seed: int) -> Subspace:
    """Uniformly (Haar) distributed k-dimensional subspace of R^d, float64."""
    gaussian = torch.randn(d, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Subspace(torch.linalg.qr(gaussian).Q)


def subspace_share(vectors: Float[Tensor, "batch d"], subspace: Subspace) -> Float[Tensor, " batch"] | None:
    """Share of each vector's energy in a subspace, ‖P z‖² / ‖z‖², between 0 and 1.

    Args:
        vectors: Vectors z, none of them zero.
        subspace: Subspace of R^d with orthogonal projector P.

    Returns:
        One share per vector; None if the subspace has dimension 0.

    Raises:
        ValueError: If the widths differ, or if a vector is zero, whose share is undefined.
    """
    if vectors.shape[1] != subspace.basis.shape[0]:
        raise ValueError(
            f"vectors of width {vectors.shape[1]}: expected {subspace.basis.shape[0]}, that of the subspace"
        )
    if subspace.dimension == 0:
        return None
    z = vectors.double()
    squared_norms = z.square().sum(dim=1)
    n_zero = int((squared_norms == 0).sum())
    if n_zero:
        raise ValueError(f"{n_zero} of {len(z)} vectors are zero: their share is undefined; leave them out")
    return (z @ subspace.basis).square().sum(dim=1) / squared_norms
