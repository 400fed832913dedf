"""Which directions can a matrix not produce, and how much of a vector lies there?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

RankRule = Literal["exact", "energy90"]


@dataclass(frozen=True)
class Subspace:
    """An orthonormal basis, (d, k); k may be 0."""

    basis: Float[Tensor, "d k"]

    @property
    def dimension(self) -> int:
        return self.basis.shape[1]

    @property
    def chance(self) -> float:
        """Expected share of a random vector's energy, k / d."""
        return self.dimension / self.basis.shape[0]


def rank(singular_values: Float[Tensor, " k"], rule: RankRule, shape: tuple[int, int]) -> int:
    """Directions that count: `exact`, above numerical rounding; `energy90`, the fewest that hold 90 % of Σσ²."""
    if rule == "exact":
        tolerance = singular_values.max() * max(shape) * torch.finfo(singular_values.dtype).eps
        return int((singular_values > tolerance).sum())
    if rule == "energy90":
        return energy_rank(singular_values)
    raise ValueError(f"rank rule {rule!r}: expected 'exact' or 'energy90'")


def energy_rank(singular_values: Float[Tensor, " k"], share: float = 0.9) -> int:
    """The fewest leading directions that hold a share of Σσ²; 0 where there is none."""
    energy = singular_values.square().cumsum(0)
    return int((energy < share * energy[-1]).sum()) + 1 if energy[-1] > 0 else 0


class OutputSpaces(NamedTuple):
    """Of one matrix, from one decomposition: what it cannot write, by both rules, and what it mostly writes."""

    null: Subspace
    null90: Subspace
    column90: Subspace


def output_spaces(matrix: Float[Tensor, "d_out d_in"]) -> OutputSpaces:
    """As `left_null_space` by both rules and `column_space` by `energy90`."""
    left, values = _left(matrix, whole=True)
    exact, ninety = (_rank(values, rule, matrix) for rule in ("exact", "energy90"))
    return OutputSpaces(Subspace(left[:, exact:]), Subspace(left[:, ninety:]), Subspace(left[:, :ninety]))


def _left(matrix: Tensor, *, whole: bool) -> tuple[Tensor, Tensor]:
    """Left singular vectors, those of what the matrix cannot write too where `whole`; and singular values. Float64."""
    left, values, _ = torch.linalg.svd(matrix.double(), full_matrices=whole)
    return left, values


def _rank(values: Tensor, rule: RankRule, matrix: Tensor) -> int:
    """Numerical rank is that of the dtype the matrix came in."""
    return rank(values.to(matrix.dtype), rule, (matrix.shape[0], matrix.shape[1]))


def column_space(matrix: Float[Tensor, "d_out d_in"], rule: RankRule = "exact") -> Subspace:
    """What the matrix can write: the span of its (leading) left singular vectors, float64."""
    if rule == "energy90":
        return Subspace(_leading(matrix.double()))
    left, values = _left(matrix, whole=False)
    return Subspace(left[:, : _rank(values, rule, matrix)])


def squared_singular_values(matrix: Float[Tensor, "d_out d_in"]) -> Float[Tensor, " k"]:
    """Descending, float64, to the rounding of the largest one."""
    return _gram(matrix.double())[0]


def _leading(m: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "d_out k"]:
    """Left singular vectors that hold 90 % of Σσ²: what squaring loses lies far below them."""
    energy, vectors = _gram(m)
    k = energy_rank(energy.sqrt())
    return vectors[:, :k] if len(m) <= m.shape[1] else (m @ vectors[:, :k]) / energy[:k].sqrt()


def _gram(m: Float[Tensor, "d_out d_in"]) -> tuple[Float[Tensor, " k"], Float[Tensor, "k k"]]:
    """σ², descending, and the singular vectors of the smaller side, some four times as fast as a decomposition."""
    energy, vectors = torch.linalg.eigh(m @ m.T if len(m) <= m.shape[1] else m.T @ m)
    return energy.flip(0).clamp(min=0), vectors.flip(1)


def left_null_space(matrix: Float[Tensor, "d_out d_in"], rule: RankRule = "exact") -> Subspace:
    """What the matrix cannot write (or hardly does, by `energy90`): vᵀW = 0, float64."""
    left, values = _left(matrix, whole=matrix.shape[0] > matrix.shape[1])
    return Subspace(left[:, _rank(values, rule, matrix) :])


def random_subspace(d: int, k: int, seed: int) -> Subspace:
    """A uniformly (Haar) distributed k-dimensional subspace of R^d, float64."""
    gaussian = torch.randn(d, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Subspace(torch.linalg.qr(gaussian).Q)


def share(vectors: Float[Tensor, "batch d"], subspace: Subspace) -> Float[Tensor, " batch"] | None:
    """‖P z‖² / ‖z‖² of each vector, in [0, 1]; None where the subspace is empty.

    Raises ValueError for another width or a zero vector, whose share is undefined.
    """
    if vectors.shape[1] != subspace.basis.shape[0]:
        raise ValueError(
            f"vectors of width {vectors.shape[1]}: expected {subspace.basis.shape[0]}, the subspace's"
        )
    if subspace.dimension == 0:
        return None
    z = vectors.double()
    norms = z.square().sum(dim=1)
    if (norms == 0).any():
        raise ValueError(f"{int((norms == 0).sum())} of {len(z)} vectors are zero: their share is undefined")
    return (z @ subspace.basis).square().sum(dim=1) / norms
