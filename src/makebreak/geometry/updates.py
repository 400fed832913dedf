"""Where does an update ΔW of a matrix write, and what does it read (Jain et al. 2024, Figs. 4 and 5)?

Energies are shares of a squared norm, sines are of an angle between a direction and a subspace: they are never mixed.
For one unit vector the sine is the root of the energy outside the subspace.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from makebreak.geometry.subspaces import Subspace, column_space, energy_rank, squared_singular_values


def energy_in(matrix: Float[Tensor, "d_out d_in"], subspace: Subspace) -> float | None:
    """‖PᵀM‖² / ‖M‖²: how much of what a matrix writes lies in a subspace of its outputs.

    None where the subspace is empty or the matrix is zero.
    """
    m = matrix.double()
    if subspace.dimension == 0 or not m.any():
        return None
    return float((subspace.basis.T @ m).square().sum() / m.square().sum())


def sines(
    delta: Float[Tensor, "d_out d_in"], base: Float[Tensor, "d_out d_in"] | Subspace
) -> Float[Tensor, " k"] | None:
    """sin of the angle between each leading output direction of ΔW and the column space of W (Fig. 4, corrected).

    Leading: the fewest singular directions that hold 90 % of Σσ², in both. base: W, or that space of it. None where ΔW
    is zero.
    """
    if not delta.any():
        return None
    left = column_space(delta, "energy90").basis
    return _sines(left, base if isinstance(base, Subspace) else column_space(base, "energy90"))


def released_sines(
    tuned: Float[Tensor, "d_out d_in"], base: Float[Tensor, "d_out d_in"]
) -> Float[Tensor, " k"]:
    """What the released code computes for Fig. 4: of *rows* of U, of the *tuned* matrix in place of ΔW, both matrices
    with the mean over outputs taken off, one direction short of 90 %. Kept to show what the figure showed."""

    def leading(matrix: Tensor) -> tuple[Tensor, int]:
        centred = matrix.double() - matrix.double().mean(dim=0)
        left, values, _ = torch.linalg.svd(centred, full_matrices=False)
        return left, max(energy_rank(values) - 1, 1)

    left, k = leading(base)
    rows, n = leading(tuned)
    padded = torch.zeros(n, len(left), dtype=torch.float64)
    padded[:, : rows.shape[1]] = rows[:n]  # a row of U is as long as the smaller side
    return _sines(torch.nn.functional.normalize(padded).T, Subspace(left[:, :k]))


def _sines(directions: Tensor, subspace: Subspace) -> Tensor:
    inside = (subspace.basis.T @ directions).square().sum(dim=0)
    return (1 - inside).clamp(min=0).sqrt()


def principal_angles(a: Subspace, b: Subspace) -> Float[Tensor, " k"]:
    """Angles between two subspaces, ascending, radians, as many as the smaller has dimensions.

    From sines where they are small and cosines where they are not, so that both ends are exact (Björck and Golub 1973).
    """
    small, large = sorted((a.basis, b.basis), key=lambda basis: basis.shape[1])
    cosines = torch.linalg.svdvals(large.T @ small).clamp(max=1)
    rest = small - large @ (large.T @ small)
    sine = torch.linalg.svdvals(rest).clamp(max=1).flip(0)
    return torch.where(cosines.square() < 0.5, cosines.acos(), sine.asin())


@dataclass(frozen=True)
class Reading:
    """What an update does with inputs a, one value per input.

    score: Σσ_j |⟨a, v_j⟩| / ‖a‖ over the leading right singular directions of ΔW (Fig. 5). gain: ‖ΔW a‖ / ‖a‖.
    relative: ‖ΔW a‖ / ‖W a‖. chance: the gain of an update of the same norm without direction, ‖ΔW‖ / √d_in.
    """

    score: Float[Tensor, " n"]
    gain: Float[Tensor, " n"]
    relative: Float[Tensor, " n"]
    chance: float


def reading(
    delta: Float[Tensor, "d_out d_in"],
    base: Float[Tensor, "d_out d_in"],
    inputs: Float[Tensor, "n d_in"],
    top: int = 15,
) -> Reading:
    """Jain et al. 2024, Fig. 5, as meant: ΔW and the input of the MLP. Raises ValueError for a zero input."""
    a, d, w = inputs.double(), delta.double(), base.double()
    norm = a.norm(dim=1)
    if (norm == 0).any():
        raise ValueError(
            f"{int((norm == 0).sum())} of {len(a)} inputs are zero: what is read of them is undefined"
        )
    _, values, right = torch.linalg.svd(d, full_matrices=False)
    score = (a @ right[:top].T).abs() @ values[:top] / norm
    written = (a @ d.T).norm(dim=1)
    return Reading(
        score, written / norm, written / (a @ w.T).norm(dim=1), float(d.norm() / inputs.shape[1] ** 0.5)
    )


@dataclass(frozen=True)
class Spectrum:
    """How concentrated a matrix is. top: share of energy in its first direction; stable_rank: ‖M‖² / σ₁²;
    rank90: directions that hold 90 % of the energy."""

    top: float
    stable_rank: float
    rank90: int


def spectrum(matrix: Float[Tensor, "d_out d_in"]) -> Spectrum | None:
    """None for a zero matrix."""
    if not matrix.any():
        return None
    energy = squared_singular_values(matrix)
    top = float(energy[0] / energy.sum())
    return Spectrum(top, 1 / top, energy_rank(energy.sqrt()))


def energy_curve(
    delta: Float[Tensor, "d_out d_in"],
    base: Float[Tensor, "d_out d_in"],
    inputs: Float[Tensor, "d_in d_in"],
    covariance: Float[Tensor, "d_in d_in"],
) -> Float[Tensor, " d_out"] | None:
    """E_k = tr(P_k ΔW C ΔWᵀ) / tr(ΔW C ΔWᵀ) for k = 1 … d_out: how much of what the update writes lies in the k
    directions that the base writes most.

    covariance: C, second moment of the inputs asked about. inputs: second moment of those that define what the base
    writes; P_k projects on the top k principal outputs of W under it. None where the update writes nothing.
    """
    d, w = delta.double(), base.double()
    written = d @ covariance.double() @ d.T
    if not written.trace() > 0:
        return None
    _, principal = torch.linalg.eigh(w @ inputs.double() @ w.T)
    energy = (principal * (written @ principal)).sum(dim=0).flip(0)
    return (energy.cumsum(0) / written.trace()).clamp(0, 1)
