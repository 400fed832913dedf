"""Decomposition of the change of MLP pre-activations, and where the update's output energy lies.

With x the MLP's input and Δ the difference of aligned and base model at the same request,

    Δpre = W·Δx + ΔW·x + ΔW·Δx + Δb:

the changed input through the base's weights, the update on the base's input, their interaction, and the bias.
The share of a term is its component along Δpre: the four shares sum to one, and one may be negative.

W is the matrix that reads the MLP's input. A gated MLP (Llama, Qwen, Gemma) has two, and rows for each, by
TransformerLens's names: `mlp.W_gate`, the gate projection, and `mlp.W_in`, the up projection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.geometry import MomentFitter, Moments, energy_at_base_share, energy_curve
from makebreak.mechanism.end_of_text import end_of_text_activations
from makebreak.models import bias_vector, check_same_shapes, mlp_input_matrices, n_layers, weight_matrix
from makebreak.prompts import Requests
from makebreak.revisions import cache_revision

N_CURVE_POINTS = 64
"""Points of an energy curve."""
BASE_SHARES = (0.5, 0.9)
"""Shares of the base's output energy at which the update's is given."""


class PreactivationRow(NamedTuple):
    """Decomposition of Δpre of one matrix for one family, means over requests weighted by ‖Δpre‖²."""

    layer: int
    """Layer of the MLP."""
    matrix: str
    """Matrix that reads the MLP's input, `mlp.W_in` or, in gated MLPs, `mlp.W_gate`."""
    family: str
    """Family of the requests."""
    relative_change: float
    """‖Δpre‖ / ‖pre‖, root of the mean squares."""
    input_share: float | None
    """Share of W·Δx, what earlier layers changed; None where nothing changed."""
    update_share: float | None
    """Share of ΔW·x, the update of this matrix on the base's input; None where nothing changed."""
    interaction_share: float | None
    """Share of ΔW·Δx; None where nothing changed."""
    bias_share: float | None
    """Share of Δb; None where nothing changed."""


class UpdateEnergyRow(NamedTuple):
    """One point of the curve E_k: output energy of ΔW within the base's leading output directions."""

    layer: int
    """Layer of the MLP."""
    matrix: str
    """Matrix that reads the MLP's input, `mlp.W_in` or, in gated MLPs, `mlp.W_gate`."""
    family: str
    """Family of the requests on whose inputs ΔW acts."""
    k: int
    """Number of leading output directions of the base on pretraining requests."""
    energy: float | None
    """Share of the energy of ΔW·a within them; None where ΔW is zero."""
    chance: float
    """k / d_out, the share of an isotropic random update."""


class WeightedEnergyRow(NamedTuple):
    """Output energy of ΔW within the base's outputs that hold a share of the base's own output energy."""

    layer: int
    """Layer of the MLP."""
    matrix: str
    """Matrix that reads the MLP's input, `mlp.W_in` or, in gated MLPs, `mlp.W_gate`."""
    family: str
    """Family of the requests on whose inputs ΔW acts."""
    base_share: float
    """Share of the energy of the base's W·a on pretraining requests, one of `BASE_SHARES`."""
    k: int
    """Fewest leading output directions of the base that hold this share."""
    energy: float | None
    """Share of the energy of ΔW·a within them; None where ΔW is zero."""
    chance: float
    """k / d_out, the share of an isotropic random update."""


@cache_revision(3)
def preactivation_rows(
    requests: Mapping[str, Requests], *, base: PreTrainedModel, tuned: PreTrainedModel
) -> list[PreactivationRow]:
    """Decomposes the change of the pre-activations at the end of text.

    Args:
        requests: Requests by family.
        base: The model before alignment.
        tuned: The model after it.

    Returns:
        One row per layer, matrix and family.
    """
    check_same_shapes(base=base, tuned=tuned)
    rows = []
    for family, batch in requests.items():
        base_inputs = end_of_text_activations(base, batch, _sites(base))
        aligned_inputs = end_of_text_activations(tuned, batch, _sites(tuned))
        for layer in range(n_layers(base)):
            x, aligned_x = base_inputs[layer].double(), aligned_inputs[layer].double()
            for matrix in mlp_input_matrices(base):
                name = f"blocks.{layer}.{matrix}"
                relative, shares = _decomposition(base, tuned, name, x, aligned_x)
                rows.append(PreactivationRow(layer, matrix, family, relative, *shares))
    return rows


def _decomposition(
    base: PreTrainedModel, tuned: PreTrainedModel, name: str, x: Tensor, aligned_x: Tensor
) -> tuple[float, list[float | None]]:
    """Relative change of the outputs of a matrix, and the shares of the four terms."""
    w, aligned_w = (weight_matrix(each, name).cpu().double() for each in (base, tuned))
    b, aligned_b = (bias_vector(each, name).cpu().double() for each in (base, tuned))
    dx, dw = aligned_x - x, aligned_w - w
    terms = [dx @ w.T, x @ dw.T, dx @ dw.T, (aligned_b - b).expand(len(x), -1)]
    change = torch.stack(terms).sum(dim=0)
    energy = change.square().sum()
    shares = [float((term * change).sum() / energy) if energy > 0 else None for term in terms]
    return float((energy / (x @ w.T + b).square().sum()).sqrt()), shares


@cache_revision(2)
def update_energy_rows(
    requests: Mapping[str, Requests],
    pretraining: Requests,
    *,
    base: PreTrainedModel,
    tuned: PreTrainedModel,
) -> list[UpdateEnergyRow]:
    """Curves E_k of the MLP input matrices: output energy of ΔW in the base's k leading output directions.

    From k = rank(W) on, the leading directions span the whole column space of W whatever the inputs, so that
    the curve is not weighted by data there (docs/errata.md, W7).

    Args:
        requests: Requests by family, on whose inputs ΔW acts.
        pretraining: Requests that define the base's leading output directions.
        base: The model before alignment.
        tuned: The model after it.

    Returns:
        `N_CURVE_POINTS` rows per layer, matrix and family.
    """
    check_same_shapes(base=base, tuned=tuned)
    reference = _moments(base, pretraining)
    rows = []
    for family, batch in requests.items():
        for layer, (moments, base_moments) in enumerate(zip(_moments(tuned, batch), reference, strict=True)):
            for matrix in mlp_input_matrices(base):
                w, aligned_w = (weight_matrix(m, f"blocks.{layer}.{matrix}").cpu() for m in (base, tuned))
                curve = energy_curve(aligned_w - w, w, base_moments.second_moment, moments.second_moment)
                step = max(len(w) // N_CURVE_POINTS, 1)
                for k in range(step, len(w) + 1, step):
                    energy = None if curve is None else float(curve[k - 1])
                    rows.append(UpdateEnergyRow(layer, matrix, family, k, energy, k / len(w)))
    return rows


@cache_revision(1)
def weighted_energy_rows(
    requests: Mapping[str, Requests],
    pretraining: Requests,
    *,
    base: PreTrainedModel,
    tuned: PreTrainedModel,
) -> list[WeightedEnergyRow]:
    """Output energy of ΔW where the base writes most: in the outputs with 50 and 90 % of the base's energy.

    Unlike a k that is given by the rank of W, these k depend on the inputs (docs/errata.md, W7).

    Args:
        requests: Requests by family, on whose inputs ΔW acts.
        pretraining: Requests on which the base's output energy is measured.
        base: The model before alignment.
        tuned: The model after it.

    Returns:
        One row per layer, matrix, family and share of the base's energy.
    """
    check_same_shapes(base=base, tuned=tuned)
    reference = _moments(base, pretraining)
    rows = []
    for family, batch in requests.items():
        for layer, (moments, base_moments) in enumerate(zip(_moments(tuned, batch), reference, strict=True)):
            for matrix in mlp_input_matrices(base):
                w, aligned_w = (weight_matrix(m, f"blocks.{layer}.{matrix}").cpu() for m in (base, tuned))
                second_moments = base_moments.second_moment, moments.second_moment
                for base_share in BASE_SHARES:
                    k, energy = energy_at_base_share(aligned_w - w, w, *second_moments, base_share)
                    rows.append(WeightedEnergyRow(layer, matrix, family, base_share, k, energy, k / len(w)))
    return rows


def _sites(model: PreTrainedModel) -> list[str]:
    return [f"blocks.{layer}.mlp.hook_in" for layer in range(n_layers(model))]


def _moments(model: PreTrainedModel, requests: Requests) -> list[Moments]:
    """Moments of every MLP's inputs at the end of text, by layer."""
    moments = []
    for inputs in end_of_text_activations(model, requests, _sites(model)):
        fitter = MomentFitter()
        fitter.update(inputs)
        moments.append(fitter.result)
    return moments
