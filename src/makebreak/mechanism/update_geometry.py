"""Geometry of weight updates: output energy in null spaces, sines to the column space, and read gain.

Each number of a matrix's update ΔW has three references: random updates (Haar), ΔW with its outputs permuted,
each drawn `N_DRAWS` times, and ΔW against the matrix of a base of another pretraining seed. Sham safety,
remap controls, continued pretraining and a new benign operator are models of their own that the same function
measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.geometry import (
    OutputSpaces,
    energy_share,
    output_spaces,
    read_gain,
    row_sines,
    sines,
    spectrum,
)
from makebreak.mechanism.end_of_text import end_of_text_activations
from makebreak.models import check_same_shapes, matrix_names, mlp_input_matrices, n_layers, weight_matrix
from makebreak.prompts import Requests
from makebreak.revisions import cache_revision

N_DRAWS = 5
"""Draws of each random reference."""
LEADING = (1, 2, 4, 8)
"""Numbers of leading right singular directions of ΔW whose read gain is given beside that of all."""


class UpdateRow(NamedTuple):
    """Geometry of one matrix's update or of a reference; the last six columns are None for references."""

    matrix: str
    """Name of the matrix within its block, such as `mlp.W_in`."""
    layer: int
    """Block of the matrix."""
    against: str
    """`update`, or a reference: `haar`, `permuted`, `other_seed`; the former two are means over draws."""
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
    n_draws: int = 1
    """Draws of a random reference; 1 for the update and for another seed."""
    null_sd: float | None = None
    """Standard deviation of `null` over draws; None for one draw."""
    null90_sd: float | None = None
    """Standard deviation of `null90` over draws; None for one draw."""
    sine_sd: float | None = None
    """Standard deviation of `sine` over draws; None for one draw."""
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
    row_sine: float | None = None
    """Mean of `geometry.row_sines`, the statistic of the script released with Jain et al. 2024 (Fig. 4)."""


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
    gain_1: float
    """Read gain of ΔW's first right singular direction alone, σ₁ |⟨a, v₁⟩| / ‖a‖."""
    gain_2: float
    """The same of its first two directions together."""
    gain_4: float
    """The same of its first four directions."""
    gain_8: float
    """The same of its first eight directions."""
    attention_score: float | None
    """The score of the *base's* matrix on the *attention's* output, as in the released script; None where the
    attention writes nothing."""


@cache_revision(3)
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
            "update": ([delta], spaces),
            "haar": ([torch.randn(delta.shape, generator=random) for _ in range(N_DRAWS)], spaces),
            "permuted": (
                [delta[torch.randperm(len(delta), generator=random)] for _ in range(N_DRAWS)],
                spaces,
            ),
        }
        if other_base is not None:
            references["other_seed"] = ([delta], output_spaces(weight_matrix(other_base, name).cpu()))
        layer, kind = name.split(".", 2)[1:]
        for against, (changes, reference_spaces) in references.items():
            row = _update_row((kind, int(layer), against), changes, reference_spaces)
            if against == "update":
                row = row._replace(
                    update_norm=float(delta.norm()),
                    relative_norm=float(delta.norm() / w.norm()),
                    row_sine=float(row_sines(aligned_w, w).mean()),
                    **vars(spectrum(delta)),
                )
            rows.append(row)
    return rows


def _update_row(key: tuple[str, int, str], changes: Sequence[Tensor], spaces: OutputSpaces) -> UpdateRow:
    """Means and standard deviations over draws of an update."""
    null, null90, sine = zip(*(_output_columns(change, spaces) for change in changes), strict=True)
    return UpdateRow(
        *key,
        null=_mean(null),
        null90=_mean(null90),
        sine=_mean(sine),
        chance=spaces.left_null.chance,
        chance90=spaces.left_null90.chance,
        n_draws=len(changes),
        null_sd=_sd(null),
        null90_sd=_sd(null90),
        sine_sd=_sd(sine),
    )


def _output_columns(delta: Tensor, spaces: OutputSpaces) -> tuple[float | None, float | None, float | None]:
    """null, null90 and sine of one update."""
    values = sines(delta, spaces.column90)
    return (
        energy_share(delta, spaces.left_null),
        energy_share(delta, spaces.left_null90),
        None if values is None else float(values.mean()),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean over draws; None where the number is undefined."""
    numbers = [value for value in values if value is not None]
    return mean(numbers) if numbers else None


def _sd(values: Sequence[float | None]) -> float | None:
    """Standard deviation over draws; None where there are not two."""
    numbers = [value for value in values if value is not None]
    return stdev(numbers) if len(numbers) > 1 else None


@cache_revision(4)
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
                leading = gains.leading_gain.mean(dim=0).tolist()
                rows.append(
                    ReadGainRow(
                        layer=layer,
                        matrix=matrix,
                        family=family,
                        score=float(gains.score.mean()),
                        gain=float(gains.gain.mean()),
                        relative=float(gains.relative.mean()),
                        chance=gains.chance,
                        **{f"gain_{k}": leading[min(k, len(leading)) - 1] for k in LEADING},
                        attention_score=_attention_score(w, attention),
                    )
                )
    return rows


def _attention_score(weight: Tensor, attention: Tensor) -> float | None:
    """Mean score of a matrix on the attention's outputs that are not zero; None if all are."""
    written = attention[attention.any(dim=1)]
    return float(read_gain(weight, weight, written).score.mean()) if len(written) else None
