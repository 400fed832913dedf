"""Geometry of weight updates: output energy in null spaces, sines to the column space, and read gain.

Each number of a matrix's update ΔW has three references: a random update (Haar), ΔW with its outputs
permuted, and ΔW against the matrix of a base of another pretraining seed. Sham safety, remap controls,
continued pretraining and a new benign operator are models of their own that the same function measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.geometry import (
    OutputSpaces,
    energy_share,
    output_spaces,
    padded_sines,
    read_gain,
    sines,
    spectrum,
)
from makebreak.mechanism.end_of_text import end_of_text_activations
from makebreak.models import check_same_shapes, matrix_names, mlp_input_matrices, n_layers, weight_matrix
from makebreak.prompts import Requests
from makebreak.revisions import cache_revision


class UpdateRow(NamedTuple):
    """Geometry of one matrix's update or of a reference; the last six columns are None for references."""

    matrix: str
    """Name of the matrix within its block, such as `mlp.W_in`."""
    layer: int
    """Block of the matrix."""
    against: str
    """`update`, or a reference: `haar`, `permuted`, `other_seed`."""
    null: float | None
    """Share of ΔW's energy in the left null space of W by exact rank; None if that space is empty."""
    null90: float | None
    """The same by the rank that holds 90 % of W's energy."""
    sine: float | None
    """Mean sine of ΔW's leading output directions to the leading column space of W (90 % of the energy
    each)."""
    chance: float
    """Share of a random vector's energy in the left null space by exact rank."""
    chance90: float
    """The same by the rank that holds 90 % of the energy."""
    update_norm: float | None = None
    """Frobenius norm of ΔW."""
    relative_norm: float | None = None
    """‖ΔW‖ / ‖W‖."""
    top_share: float | None = None
    """Share of ΔW's energy in its first singular direction."""
    stable_rank: float | None = None
    """‖ΔW‖² / σ₁²."""
    rank90: float | None = None
    """Number of singular directions that hold 90 % of ΔW's energy."""
    padded_sine: float | None = None
    """Mean of `geometry.padded_sines`: an earlier reading of a released script, which it does not
    reproduce."""


class ReadGainRow(NamedTuple):
    """Read gain of ΔW on the aligned model's MLP inputs, means over requests (Fig. 5)."""

    layer: int
    """Layer of the MLP."""
    matrix: str
    """Matrix that reads the MLP's input, `mlp.W_in` or, in gated MLPs, `mlp.W_gate`."""
    family: str
    """Family of the requests."""
    score: float
    """Σσ_j |⟨a, v_j⟩| / ‖a‖ over ΔW's leading right singular directions."""
    gain: float
    """Read gain, ‖ΔW a‖ / ‖a‖."""
    relative: float
    """‖ΔW a‖ / ‖W a‖."""
    chance: float
    """Read gain of an update of the same norm without direction, ‖ΔW‖ / √d_in."""
    attention_score: float | None
    """The score of the *base's* matrix on the *attention's* output, as in the released script; None where the
    attention writes nothing."""


@cache_revision(2)
def update_rows(
    *, base: PreTrainedModel, tuned: PreTrainedModel, other_base: PreTrainedModel | None = None, seed: int
) -> list[UpdateRow]:
    """Geometry of every changed matrix's update, with references (Jain et al. 2024, Fig. 4).

    Args:
        base: The model before alignment.
        tuned: The model after it.
        other_base: A base of another pretraining seed, for a reference; None for none.
        seed: Seed of the random references.

    Returns:
        One row per changed matrix and reference.
    """
    check_same_shapes(base=base, tuned=tuned)
    random = torch.Generator().manual_seed(seed)
    rows = []
    for name in matrix_names(base):
        w, aligned_w = (weight_matrix(each, name).cpu() for each in (base, tuned))
        delta = aligned_w - w
        if not delta.any():
            continue
        spaces = output_spaces(w)
        references = {
            "update": (delta, spaces),
            "haar": (torch.randn(delta.shape, generator=random), spaces),
            "permuted": (delta[torch.randperm(len(delta), generator=random)], spaces),
        }
        if other_base is not None:
            references["other_seed"] = (delta, output_spaces(weight_matrix(other_base, name).cpu()))
        layer, kind = name.split(".", 2)[1:]
        for against, (change, reference_spaces) in references.items():
            row = UpdateRow(kind, int(layer), against, *_output_columns(change, reference_spaces))
            if against == "update":
                row = row._replace(
                    update_norm=float(delta.norm()),
                    relative_norm=float(delta.norm() / w.norm()),
                    padded_sine=float(padded_sines(aligned_w, w).mean()),
                    **vars(spectrum(delta)),
                )
            rows.append(row)
    return rows


def _output_columns(
    delta: Tensor, spaces: OutputSpaces
) -> tuple[float | None, float | None, float | None, float, float]:
    """null, null90, sine, chance and chance90 of one update."""
    values = sines(delta, spaces.column90)
    return (
        energy_share(delta, spaces.left_null),
        energy_share(delta, spaces.left_null90),
        None if values is None else float(values.mean()),
        spaces.left_null.chance,
        spaces.left_null90.chance,
    )


@cache_revision(3)
def read_gain_rows(
    requests: Mapping[str, Requests], *, base: PreTrainedModel, tuned: PreTrainedModel
) -> list[ReadGainRow]:
    """Read gain of the updates of the matrices that read MLP inputs, at the end of text (their Fig. 5).

    A gated MLP has two, W_gate and W_in, the up projection.

    Args:
        requests: Requests by family.
        base: The model before alignment.
        tuned: The model after it, whose inputs are read.

    Returns:
        One row per layer, matrix and family.
    """
    check_same_shapes(base=base, tuned=tuned)
    layers = range(n_layers(base))
    sites = [f"blocks.{i}.{part}" for i in layers for part in ("mlp.hook_in", "hook_attn_out")]
    rows = []
    for family, batch in requests.items():
        activations = end_of_text_activations(tuned, batch, sites)
        for layer in layers:
            inputs, attention = activations[2 * layer], activations[2 * layer + 1]
            for matrix in mlp_input_matrices(base):
                w, aligned_w = (weight_matrix(m, f"blocks.{layer}.{matrix}").cpu() for m in (base, tuned))
                gains = read_gain(aligned_w - w, w, inputs)
                rows.append(
                    ReadGainRow(
                        layer=layer,
                        matrix=matrix,
                        family=family,
                        score=float(gains.score.mean()),
                        gain=float(gains.gain.mean()),
                        relative=float(gains.relative.mean()),
                        chance=gains.chance,
                        attention_score=_attention_score(w, attention),
                    )
                )
    return rows


def _attention_score(weight: Tensor, attention: Tensor) -> float | None:
    """Mean score of a matrix on the attention's outputs that are not zero; None if all are."""
    written = attention[attention.any(dim=1)]
    return float(read_gain(weight, weight, written).score.mean()) if len(written) else None
