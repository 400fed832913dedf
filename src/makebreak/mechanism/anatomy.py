"""What is the change of an MLP's pre-activations made of, and where does the update write?

With x the MLP's input, Δ of aligned minus base at the same request:

    Δpre = W·Δx + ΔW·x + ΔW·Δx + Δb

the movement that earlier layers caused, seen by the base's own weights; the update, seen by the base's input; both; and
the bias. Each term's share is its component along Δpre: the four add up to one, and one may be negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from makebreak.geometry import MomentFitter, Moments, energy_curve
from makebreak.mechanism.end_of_text import at_end_of_text, collect
from makebreak.models import bias, matrix, n_layers
from makebreak.requests import Requests

POINTS = 64  # of an energy curve
TERMS = ("moved_input", "update", "both", "bias")


def anatomy_rows(
    model: PreTrainedModel, base: PreTrainedModel, requests: Mapping[str, Requests]
) -> list[dict[str, Any]]:
    """One row per layer and family: the share of each term, means over requests weighted by ‖Δpre‖²; `change` is
    ‖Δpre‖ / ‖pre‖, root of the mean squares. Shares are None where nothing changed."""
    rows = []
    for family, asked in requests.items():
        inputs = [collect(m, asked, _sites(m)) for m in (base, model)]
        for layer in range(n_layers(base)):
            x, moved = (found[layer].double() for found in inputs)
            name = f"blocks.{layer}.mlp.W_in"
            w, tuned = (matrix(m, name).double() for m in (base, model))
            offset, shifted = (bias(m, name).double() for m in (base, model))
            dx, dw = moved - x, tuned - w
            terms = dict(
                zip(
                    TERMS, (dx @ w.T, x @ dw.T, dx @ dw.T, (shifted - offset).expand(len(x), -1)), strict=True
                )
            )
            whole = torch.stack(list(terms.values())).sum(dim=0)
            energy = whole.square().sum()
            shares = {k: float((t * whole).sum() / energy) if energy > 0 else None for k, t in terms.items()}
            change = float((energy / (x @ w.T + offset).square().sum()).sqrt())
            rows.append({"layer": layer, "family": family, "change": change, **shares})
    return rows


def energy_rows(
    model: PreTrainedModel, base: PreTrainedModel, requests: Mapping[str, Requests], pretraining: Requests
) -> list[dict[str, Any]]:
    """E_k(C) of W_in by layer and family, `POINTS` points each: the share of what ΔW writes on the family's inputs that
    lies in the top k outputs of the base on pretraining requests. `chance` is k / d_out; None where ΔW writes nothing.
    """
    reference = _moments(base, pretraining)
    rows = []
    for family, asked in requests.items():
        for layer, (found, usual) in enumerate(zip(_moments(model, asked), reference, strict=True)):
            w, tuned = (matrix(m, f"blocks.{layer}.mlp.W_in") for m in (base, model))
            curve = energy_curve(tuned - w, w, usual.second, found.second)
            step = max(len(w) // POINTS, 1)
            for k in range(step, len(w) + 1, step):
                energy = None if curve is None else float(curve[k - 1])
                rows.append(
                    {"layer": layer, "family": family, "k": k, "energy": energy, "chance": k / len(w)}
                )
    return rows


def _sites(model: PreTrainedModel) -> list[str]:
    return [f"blocks.{layer}.mlp.hook_in" for layer in range(n_layers(model))]


def _moments(model: PreTrainedModel, requests: Requests) -> list[Moments]:
    fitters: dict[str, MomentFitter] = {site: MomentFitter() for site in _sites(model)}
    for batch in at_end_of_text(model, requests, _sites(model)):
        for site, fitter in fitters.items():
            fitter.update(batch.at[site])
    return [fitter.result for fitter in fitters.values()]
