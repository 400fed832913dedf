"""How much of what an MLP reads lies where its base could not write: in the left null space of the base's matrix?

z is the pre-activation less its bias, W·a, at the end of text. Its null share is ‖P_N z‖² / ‖z‖² with P_N the
projector on the left null space of the *base's* W_in; `delta` is the same for ΔW·a alone, what the update adds.
A random subspace of the same dimension stands beside each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.geometry import RankRule, Subspace, left_null_space, random_subspace, share
from makebreak.mechanism.end_of_text import collect
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
    matrices = [tuple(matrix(m, f"blocks.{i}.mlp.W_in") for m in (model, base)) for i in range(n_layers(model))]
    spaces = [_spaces(w_base, 1000 * seed + layer) for layer, (_, w_base) in enumerate(matrices)]
    for family, asked in requests.items():
        for layer, a in enumerate(collect(model, asked, sites)):
            w, w_base = matrices[layer]
            changed = bool((w != w_base).any())
            quantities = {"pre": a @ w.T} | ({"delta": a @ (w - w_base).T} if changed else {})
            for rule, (null, random) in spaces[layer].items():
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


def _spaces(w_base: Tensor, seed: int) -> dict[RankRule, tuple[Subspace, Subspace]]:
    """Rank rule → the base's left null space, and a random subspace of the same dimension."""
    rules: tuple[RankRule, ...] = ("exact", "energy90")
    nulls: dict[RankRule, Subspace] = {rule: left_null_space(w_base, rule) for rule in rules}
    return {rule: (nulls[rule], random_subspace(len(w_base), nulls[rule].dimension, seed)) for rule in rules}


def _by_outcome(outcomes: np.ndarray) -> list[tuple[str, np.ndarray]]:
    masks = [("all", np.ones(len(outcomes), dtype=bool))]
    masks += [(name, outcomes == i) for i, name in enumerate(OUTCOMES)]
    return [(name, mask) for name, mask in masks if mask.any()]
