"""How much of what an MLP reads lies where its base could not write: in the left null space of the base's matrix?

z is the pre-activation less its bias, W·a, at the end of text. Its null share is ‖P_N z‖² / ‖z‖² with P_N the
projector on the left null space of the *base's* W_in; `delta` is the same for ΔW·a alone, what the update adds.
A random subspace of the same dimension stands beside each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from makebreak.activations import capture
from makebreak.geometry import left_null_space, random_subspace, share
from makebreak.models import matrix, n_layers
from makebreak.requests import OUTCOMES, Requests


def null_share_rows(
    model: PreTrainedModel,
    base: PreTrainedModel,
    requests: Mapping[str, Requests],
    outcomes: Mapping[str, np.ndarray],
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """One row per layer, family, rank rule, quantity (`pre`, `delta`) and outcome (or `all`).

    outcomes: per family (n,) index into OUTCOMES, from this model's own answers. seed: of the random subspace.
    `share` and `random_share` are means over requests, None where the subspace is empty.
    """
    rows = []
    sites = [f"blocks.{layer}.mlp.hook_in" for layer in range(n_layers(model))]
    for family, asked in requests.items():
        position = torch.from_numpy(asked.spans["eot"][:, 0])
        batches = [found for _, found in capture(model, torch.from_numpy(asked.prompt), sites, position)]
        for layer, site in enumerate(sites):
            a = torch.cat([b[site] for b in batches])
            w, w_base = (matrix(m, f"blocks.{layer}.mlp.W_in") for m in (model, base))
            changed = bool((w != w_base).any())
            quantities = {"pre": a @ w.T} | ({"delta": a @ (w - w_base).T} if changed else {})
            for rule in ("exact", "energy90"):
                null = left_null_space(w_base, rule)
                random = random_subspace(len(w), null.dimension, 1000 * seed + layer)
                for quantity, z in quantities.items():
                    found, control = share(z, null), share(z, random)
                    for outcome, chosen in _by_outcome(outcomes[family]):
                        rows.append(
                            {
                                "layer": layer,
                                "family": family,
                                "rule": rule,
                                "quantity": quantity,
                                "outcome": outcome,
                                "n": int(chosen.sum()),
                                "share": None if found is None else float(found[chosen].mean()),
                                "random_share": None if control is None else float(control[chosen].mean()),
                                "chance": null.chance,
                            }
                        )
    return rows


def _by_outcome(outcomes: np.ndarray) -> list[tuple[str, np.ndarray]]:
    masks = [("all", np.ones(len(outcomes), dtype=bool))]
    masks += [(name, outcomes == i) for i, name in enumerate(OUTCOMES)]
    return [(name, mask) for name, mask in masks if mask.any()]
