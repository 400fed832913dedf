"""Output directions and read gain of a weight update ΔW, relative to the base's matrix W.

The statistics are those of Jain et al. 2024, Figs. 4 and 5, and related ones. Energies are shares of a
squared norm; sines are of the angle between a direction and a subspace. For one unit vector the sine is the
square root of the share of energy outside the subspace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from makebreak.geometry.subspaces import Subspace, column_space, energy_rank, squared_singular_values

_JAIN_N_DIRECTIONS = 15
"""Leading right singular directions in the score of Jain et al. 2024, Fig. 5."""


def energy_share(matrix: Float[Tensor, "d_out d_in"], subspace: Subspace) -> float | None:
    """Share of a matrix's energy in a subspace of its outputs, ‖PᵀM‖² / ‖M‖².

    Args:
        matrix: Matrix M, such as an update ΔW.
        subspace: Subspace of R^d_out with orthonormal basis P.

    Returns:
        A share between 0 and 1; None if the subspace has dimension 0 or the matrix is zero.
    """
    m = matrix.double()
    if subspace.dimension == 0 or not m.any():
        return None
    return float((subspace.basis.T @ m).square().sum() / m.square().sum())


def sines(
    delta: Float[Tensor, "d_out d_in"], base: Float[Tensor, "d_out d_in"] | Subspace
) -> Float[Tensor, " k"] | None:
    """Sines of the angles between the leading output directions of ΔW and the column space of W.

    This is Jain et al. 2024, Fig. 4, computed from ΔW and with columns of the left singular vectors.
    Leading directions are the fewest left singular vectors with 90 % of Σσ², for ΔW and for W.

    Args:
        delta: Update ΔW.
        base: The base's matrix W, or its column space by the rule `energy90`.

    Returns:
        One sine per leading direction of ΔW; None if ΔW is zero.
    """
    if not delta.any():
        return None
    left = column_space(delta, "energy90").basis
    return _sines(left, base if isinstance(base, Subspace) else column_space(base, "energy90"))


def row_sines(tuned: Float[Tensor, "d_out d_in"], base: Float[Tensor, "d_out d_in"]) -> Float[Tensor, " k"]:
    """Sines of *rows* of the tuned matrix's left singular vectors to the span of rows of the base's.

    This is the statistic of the script released with Jain et al. 2024 (Fig. 4), by its own definition. Of
    either matrix the mean over outputs is subtracted and the full U, (d_out, d_out), is computed; as many
    leading rows of U are taken as there are singular values before the one that reaches 90 % of Σσ² (here at
    least one). It is 0 for no update and grows with the update. It is no measure of the column space of ΔW:
    rows of U are not output directions, and those of a tall matrix depend on the basis that the decomposition
    chooses for the left null space, here that of LAPACK on the CPU.

    Args:
        tuned: Matrix of the fine-tuned model.
        base: The same matrix of the base.

    Returns:
        One sine per row of the tuned matrix's U that is taken.
    """

    def leading_rows(matrix: Tensor) -> Tensor:
        centred = matrix.double().cpu() - matrix.double().cpu().mean(dim=0)
        left, values, _ = torch.linalg.svd(centred, full_matrices=True)
        return left[: max(energy_rank(values) - 1, 1)].T

    return _sines(leading_rows(tuned), Subspace(leading_rows(base)))


def _sines(directions: Tensor, subspace: Subspace) -> Tensor:
    """Sine of the angle between each unit column and a subspace."""
    inside = (subspace.basis.T @ directions).square().sum(dim=0)
    return (1 - inside).clamp(min=0).sqrt()


def principal_angles(a: Subspace, b: Subspace) -> Float[Tensor, " k"]:
    """Principal angles between two subspaces, ascending, in radians; as many as the smaller dimension.

    Small angles are computed from sines and large ones from cosines, so that both are exact (Björck and Golub
    1973).
    """
    small, large = sorted((a.basis, b.basis), key=lambda basis: basis.shape[1])
    cosines = torch.linalg.svdvals(large.T @ small).clamp(max=1)
    residual = small - large @ (large.T @ small)
    sine = torch.linalg.svdvals(residual).clamp(max=1).flip(0)
    return torch.where(cosines.square() < 0.5, cosines.acos(), sine.asin())


@dataclass(frozen=True)
class ReadGain:
    """Response of an update ΔW to inputs a, one value per input (Jain et al. 2024, Fig. 5)."""

    score: Float[Tensor, " n"]
    """Σ σ_j |⟨a, v_j⟩| / ‖a‖ over the leading right singular directions v_j of ΔW (Fig. 5)."""
    gain: Float[Tensor, " n"]
    """Read gain ‖ΔW a‖ / ‖a‖."""
    relative: Float[Tensor, " n"]
    """Update's output relative to the base's, ‖ΔW a‖ / ‖W a‖."""
    chance: float
    """Root-mean-square gain of an update with the same norm and no preferred direction, ‖ΔW‖ / √d_in."""
    leading_gain: Float[Tensor, "n k"]
    """Read gain of the first 1, 2, …, k leading right singular directions of ΔW alone."""


def read_gain(
    delta: Float[Tensor, "d_out d_in"],
    base: Float[Tensor, "d_out d_in"],
    inputs: Float[Tensor, "n d_in"],
    n_directions: int = _JAIN_N_DIRECTIONS,
) -> ReadGain:
    """Read gain of an update ΔW on inputs of its matrix.

    `score` is Jain et al. 2024, Fig. 5, as the text defines it: of ΔW, on the input of the MLP.

    Args:
        delta: Update ΔW.
        base: The base's matrix W.
        inputs: Inputs a of the matrix, one per row, none of them zero.
        n_directions: Leading right singular directions of ΔW that enter the score, and the number of columns
            of `leading_gain` where ΔW has as many.

    Returns:
        Score, gain and relative gain of every input, and the gain expected by chance.

    Raises:
        ValueError: If an input is zero; its gain is undefined.
    """
    a, d, w = inputs.double(), delta.double(), base.double()
    norm = a.norm(dim=1)
    n_zero = int((norm == 0).sum())
    if n_zero:
        raise ValueError(f"{n_zero} of {len(a)} inputs are zero: their read gain is undefined")
    _, values, right = torch.linalg.svd(d, full_matrices=False)
    output_norm = (a @ d.T).norm(dim=1)
    responses = (a @ right[:n_directions].T).abs() * values[:n_directions]
    return ReadGain(
        score=responses.sum(dim=1) / norm,
        gain=output_norm / norm,
        relative=output_norm / (a @ w.T).norm(dim=1),
        chance=float(d.norm() / inputs.shape[1] ** 0.5),
        leading_gain=responses.square().cumsum(dim=1).sqrt() / norm[:, None],
    )


@dataclass(frozen=True)
class Spectrum:
    """Concentration of a matrix's energy Σσ² in its leading singular directions."""

    top_share: float
    """Share of the energy in the first singular direction, σ₁² / Σσ²."""
    stable_rank: float
    """Stable rank, ‖M‖² / σ₁² (Frobenius norm)."""
    rank90: int
    """Fewest singular directions that hold 90 % of the energy."""


def spectrum(matrix: Float[Tensor, "d_out d_in"]) -> Spectrum | None:
    """Concentration of a matrix's singular values; None for a zero matrix."""
    if not matrix.any():
        return None
    energy = squared_singular_values(matrix)
    top_share = float(energy[0] / energy.sum())
    return Spectrum(top_share, stable_rank=1 / top_share, rank90=energy_rank(energy.sqrt()))


class BaseEnergyShare(NamedTuple):
    """Share of an update's output energy in the base's outputs that hold a given share of the base's own."""

    k: int
    """Fewest principal output directions of the base that hold this share of its output energy."""
    energy: float | None
    """Share of the update's output energy within them; None if the update has no output."""


def energy_at_base_share(
    delta: Float[Tensor, "d_out d_in"],
    base: Float[Tensor, "d_out d_in"],
    reference_moment: Float[Tensor, "d_in d_in"],
    input_moment: Float[Tensor, "d_in d_in"],
    base_share: float,
) -> BaseEnergyShare:
    """Share E_k of an update's output energy at the k that holds a share of the base's output energy.

    Args:
        delta: Update ΔW.
        base: The base's matrix W, which has an output on the reference inputs.
        reference_moment: Second moment S of the inputs on which W's output energy is measured.
        input_moment: Second moment C of the inputs on which the update's output is measured.
        base_share: Share of W's output energy, above 0 and at most 1.

    Returns:
        k, and E_k of `energy_curve`.

    Raises:
        ValueError: If the base has no output on the reference inputs.
    """
    base_curve = energy_curve(base, base, reference_moment, reference_moment)
    if base_curve is None:
        raise ValueError("the base's matrix has no output on the reference inputs: no share of it exists")
    k = min(int((base_curve < base_share * (1 - 1e-12)).sum()) + 1, len(base_curve))
    curve = energy_curve(delta, base, reference_moment, input_moment)
    return BaseEnergyShare(k, None if curve is None else float(curve[k - 1]))


def energy_curve(
    delta: Float[Tensor, "d_out d_in"],
    base: Float[Tensor, "d_out d_in"],
    reference_moment: Float[Tensor, "d_in d_in"],
    input_moment: Float[Tensor, "d_in d_in"],
) -> Float[Tensor, " d_out"] | None:
    """Share of an update's output energy in the k principal output directions of the base's matrix.

    E_k = tr(P_k ΔW C ΔWᵀ) / tr(ΔW C ΔWᵀ) for k = 1 … d_out, where P_k projects on the top k eigenvectors of
    W S Wᵀ. For S of full rank, P_k at k = rank(W) is the projector on the whole column space of W, whatever
    the inputs are, and its range contains that space for every larger k (docs/errata.md, W7).

    Args:
        delta: Update ΔW.
        base: The base's matrix W.
        reference_moment: Second moment S of the inputs that define W's principal output directions.
        input_moment: Second moment C of the inputs on which the update's output is measured.

    Returns:
        E_1 … E_d_out, non-decreasing; None if the update has no output on these inputs.
    """
    d, w = delta.double(), base.double()
    output_moment = d @ input_moment.double() @ d.T
    total = output_moment.trace()
    if not total > 0:
        return None
    _, principal = torch.linalg.eigh(w @ reference_moment.double() @ w.T)
    energy = (principal * (output_moment @ principal)).sum(dim=0).flip(0)
    return (energy.cumsum(0) / total).clamp(0, 1)
