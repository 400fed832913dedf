"""Do safe and unsafe requests form clusters, layer by layer (Jain et al. 2024, Fig. 3)?

τ is taken from all units of `mlp.hook_post` at the end of text. Means come from standard requests of the `fit`
half, grammars weighing the same; what is scored are other requests. Beside the standard requests, whose tasks
differ, stand the token-matched ones: the same tasks on text of the other branch.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.geometry import ClusterMeans, Clusters, separation
from makebreak.mechanism.end_of_text import at_end_of_text, collect
from makebreak.models import n_layers
from makebreak.requests import Requests

Pair = tuple[Requests, Requests]  # safe, unsafe
SHUFFLES = 20  # of labels: one alone lies up to .3 aside where clusters are clear


def cluster_rows(
    model: PreTrainedModel, fit: Pair, score: Mapping[str, Pair], *, n_groups: int = 1, seed: int
) -> list[dict[str, Any]]:
    """One row per layer and scored pair: gap, normalised gap, AUROC; `shuffled_*`: their mean over `SHUFFLES` shuffles
    of the labels that made the means.

    fit, score: (safe, unsafe) requests, which should not share texts. seed: of the shuffles.
    """
    means, *shuffled = _fit(model, fit, n_groups, SHUFFLES, seed)
    rows = []
    for name, pair in score.items():
        activations = [collect(model, requests, _sites(model)) for requests in pair]
        for layer in range(n_layers(model)):
            safe, unsafe = (a[layer] for a in activations)
            found, *control = (separation(c[layer], safe, unsafe) for c in (means, *shuffled))
            normalised = [c.normalised for c in control if c.normalised is not None]
            rows.append(
                {"layer": layer, "requests": name}
                | vars(found)
                | {"shuffled_normalised": fmean(normalised) if normalised else None}
                | {"shuffled_auroc": fmean(c.auroc for c in control)}
            )
    return rows


def cluster_means(model: PreTrainedModel, fit: Pair, n_groups: int = 1) -> list[Clusters]:
    """Means of safe and unsafe requests at the end of text, by layer."""
    return _fit(model, fit, n_groups, shuffles=0, seed=0)[0]


def _sites(model: PreTrainedModel) -> list[str]:
    return [f"blocks.{layer}.mlp.hook_post" for layer in range(n_layers(model))]


def _fit(model: PreTrainedModel, pair: Pair, n_groups: int, shuffles: int, seed: int) -> list[list[Clusters]]:
    """By layer, for the true labels and each shuffle of them."""
    means = [[ClusterMeans(n_groups) for _ in _sites(model)] for _ in range(1 + shuffles)]
    random = torch.Generator().manual_seed(seed)
    for unsafe, requests in enumerate(pair):
        group = torch.from_numpy(requests.truth.get("grammar", np.zeros(len(requests), dtype=np.int64)))
        labels = [torch.full((len(group),), bool(unsafe)), *(_halved(group, random) for _ in range(shuffles))]
        for rows, _, found in at_end_of_text(model, requests, _sites(model)):
            for layer, site in enumerate(_sites(model)):
                for own, label in zip(means, labels, strict=True):
                    for value in (False, True):
                        chosen = label[rows] == value
                        own[layer].update(found[site][chosen], unsafe=value, group=group[rows][chosen])
    return [[layer.result for layer in own] for own in means]


def _halved(group: Tensor, random: torch.Generator) -> Tensor:
    """(n,) random labels, half of each group. Unbalanced ones would tilt the control's means along the true
    difference, and its AUROC would be near 0 or 1 where the clusters are clear."""
    label = torch.zeros(len(group), dtype=torch.bool)
    for value in group.unique():
        rows = (group == value).nonzero()[:, 0]
        shuffled = rows[torch.randperm(len(rows), generator=random)]
        label[shuffled[: len(rows) // 2]] = True
    return label
