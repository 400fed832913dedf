"""Where do the updates of a safety-tuned model write, and what do they read? With the ladder of chance beside it.

Beside each number of a matrix's update ΔW stand those of a random update (Haar), of ΔW with its outputs permuted, and
of ΔW against the matrix of a base pretrained from another seed. Sham safety, remap twins, continued pretraining and a
new benign operator are models of their own, measured by the same function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.geometry import (
    OutputSpaces,
    energy_in,
    output_spaces,
    reading,
    released_sines,
    sines,
    spectrum,
)
from makebreak.mechanism.end_of_text import collect
from makebreak.models import matrix, matrix_names, n_layers
from makebreak.requests import Requests


def update_rows(
    model: PreTrainedModel, base: PreTrainedModel, other: PreTrainedModel | None, *, seed: int
) -> list[dict[str, Any]]:
    """One row per matrix and `against` (update, haar, permuted, other_seed), Fig. 4.

    null, null90: share of ΔW's energy in the left null space of W, by exact rank and by 90 % of the energy; sine: mean
    over ΔW's leading directions of the sine to W's column space; `chance` and `chance90` of the energies. The row of
    the update has its norm, its spectrum and `released`, what the released code computes. other: a base of another
    pretraining seed. Columns are None where undefined; matrices that did not change are left out.
    """
    random = torch.Generator().manual_seed(seed)
    rows = []
    for name in matrix_names(base):
        w, tuned = matrix(base, name), matrix(model, name)
        delta = tuned - w
        if not delta.any():
            continue
        own = output_spaces(w)
        ladder = {
            "update": (delta, own),
            "haar": (torch.randn(delta.shape, generator=random), own),
            "permuted": (delta[torch.randperm(len(delta), generator=random)], own),
        }
        if other is not None:
            ladder["other_seed"] = (delta, output_spaces(matrix(other, name)))
        layer, kind = name.split(".", 2)[1:]
        for against, (change, spaces) in ladder.items():
            row = {"matrix": kind, "layer": int(layer), "against": against} | _column(change, spaces)
            if against == "update":
                row |= {"change": float(delta.norm()), "relative_change": float(delta.norm() / w.norm())}
                row |= vars(spectrum(delta)) | {"released": float(released_sines(tuned, w).mean())}
            rows.append(row)
    return rows


def _column(delta: Tensor, spaces: OutputSpaces) -> dict[str, float | None]:
    found = sines(delta, spaces.column90)
    return {
        "null": energy_in(delta, spaces.null),
        "null90": energy_in(delta, spaces.null90),
        "sine": None if found is None else float(found.mean()),
        "chance": spaces.null.chance,
        "chance90": spaces.null90.chance,
    }


def reading_rows(
    model: PreTrainedModel, base: PreTrainedModel, requests: Mapping[str, Requests]
) -> list[dict[str, Any]]:
    """One row per layer and family, Fig. 5: what ΔW of W_in reads of the aligned model's MLP inputs at the end of text.

    Means over requests: score, gain, relative as in `geometry.reading`; `released`, the score as the released code has
    it, of the *base's* matrix on the *attention's* output. chance: the gain of an update of equal norm.
    """
    layers = range(n_layers(base))
    sites = [f"blocks.{i}.{part}" for i in layers for part in ("mlp.hook_in", "hook_attn_out")]
    rows = []
    for family, asked in requests.items():
        found = collect(model, asked, sites)
        for layer in layers:
            w, tuned = (matrix(m, f"blocks.{layer}.mlp.W_in") for m in (base, model))
            inputs, attention = found[2 * layer], found[2 * layer + 1]
            read = reading(tuned - w, w, inputs)
            released = reading(w, w, attention).score.mean()
            means = {name: float(getattr(read, name).mean()) for name in ("score", "gain", "relative")}
            rows.append(
                {
                    "layer": layer,
                    "family": family,
                    **means,
                    "chance": read.chance,
                    "released": float(released),
                }
            )
    return rows
