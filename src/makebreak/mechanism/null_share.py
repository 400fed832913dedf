"""How much of what an MLP reads lies where its base could not write: in the left null space of the base's matrix?

z is the pre-activation less its bias, W·a, at the end of text. Its null share is ‖P_N z‖² / ‖z‖² with P_N the
projector on the left null space of the *base's* W_in; `delta` is the same for ΔW·a alone, what the update adds.
Beside each stand the controls: a random subspace of the same dimension, the null space of another pretraining seed's
matrix, and the same vectors with their entries permuted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.geometry import RankRule, Subspace, left_null_space, random_subspace, share
from makebreak.mechanism.end_of_text import collect
from makebreak.models import matrix, n_layers
from makebreak.requests import OUTCOMES, Requests

_CONTROLS = ("random", "other_seed")


def null_share_rows(
    model: PreTrainedModel,
    base: PreTrainedModel,
    requests: Mapping[str, Requests],
    outcomes: Mapping[str, np.ndarray],
    *,
    other: PreTrainedModel | None = None,
    seed: int,
) -> list[dict[str, Any]]:
    """One row per layer, family, rank rule, quantity (`pre`, `delta`) and outcome (or `all`).

    outcomes: per family (n,) index into OUTCOMES, from this model's own answers. other: a base of another pretraining
    seed. seed: of the random subspace and the permutation. `share` and its controls (`random_share`,
    `other_seed_share`, `permuted_share`) are means over requests, None where the subspace is empty or not given.
    """
    rows = []
    names = [f"blocks.{layer}.mlp.W_in" for layer in range(n_layers(model))]
    sites = [f"blocks.{layer}.mlp.hook_in" for layer in range(n_layers(model))]
    matrices = [(matrix(model, name), matrix(base, name)) for name in names]
    others = [None if other is None else matrix(other, name) for name in names]
    spaces = [
        _spaces(own, control, 1000 * seed + layer)
        for layer, ((_, own), control) in enumerate(zip(matrices, others, strict=True))
    ]
    shuffles = [
        torch.randperm(len(own), generator=torch.Generator().manual_seed(seed)) for _, own in matrices
    ]
    for family, asked in requests.items():
        for layer, a in enumerate(collect(model, asked, sites)):
            w, w_base = matrices[layer]
            changed = bool((w != w_base).any())
            quantities = {"pre": a @ w.T} | ({"delta": a @ (w - w_base).T} if changed else {})
            for rule, (null, *controls) in spaces[layer].items():
                for quantity, z in quantities.items():
                    shares = {
                        "share": share(z, null),
                        **{
                            f"{name}_share": None if space is None else share(z, space)
                            for name, space in zip(_CONTROLS, controls, strict=True)
                        },
                        "permuted_share": share(z[:, shuffles[layer]], null),
                    }
                    for outcome, chosen in _by_outcome(outcomes[family]):
                        rows.append(
                            {
                                "layer": layer,
                                "family": family,
                                "rule": rule,
                                "quantity": quantity,
                                "outcome": outcome,
                                "n": int(chosen.sum()),
                                "chance": null.chance,
                                **{
                                    k: None if v is None else float(v[chosen].mean())
                                    for k, v in shares.items()
                                },
                            }
                        )
    return rows


def _spaces(
    own: Tensor, other: Tensor | None, seed: int
) -> dict[RankRule, tuple[Subspace, Subspace, Subspace | None]]:
    """Rank rule → the base's left null space, a random subspace of the same dimension, another base's null space."""
    rules: tuple[RankRule, ...] = ("exact", "energy90")
    found: dict[RankRule, tuple[Subspace, Subspace, Subspace | None]] = {}
    for rule in rules:
        null = left_null_space(own, rule)
        random = random_subspace(len(own), null.dimension, seed)
        found[rule] = (null, random, None if other is None else left_null_space(other, rule))
    return found


def _by_outcome(outcomes: np.ndarray) -> list[tuple[str, np.ndarray]]:
    masks = [("all", np.ones(len(outcomes), dtype=bool))]
    masks += [(name, outcomes == i) for i, name in enumerate(OUTCOMES)]
    return [(name, mask) for name, mask in masks if mask.any()]
