"""Separation of safe and unsafe activations, layer by layer (Jain et al. 2024, Fig. 3).

τ is taken from all units of `mlp.hook_post` at the end of text; in a mixture of experts, whose units differ
between tokens, from `hook_mlp_out`. Class means come from standard requests of the *fit* half, with equal
weight for every grammar; other requests are scored. Besides standard requests, whose tasks differ,
token-matched requests can be scored: the same tasks on text of the other branch.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.geometry import ClassMeanFitter, ClassMeans, asymptotic_auroc, separation
from makebreak.mechanism.end_of_text import end_of_text_activations, tau_sites
from makebreak.models import n_layers
from makebreak.prompts import Requests

N_SHUFFLES = 20
"""Shuffles of the labels: a single one deviates by up to .3 from their mean where the classes are well
separated."""


class ClusterRow(NamedTuple):
    """Separation by τ at one layer for one pair of scored request sets."""

    layer: int
    """Layer of the MLP."""
    requests: str
    """Name of the scored pair."""
    gap: float
    """Mean τ of safe minus mean τ of unsafe requests, in units of the activations."""
    normalised: float | None
    """Gap over the distance of the class means, between -2 and 2; None if the means are equal."""
    auroc: float
    """AUROC of τ; smaller than that of exact class means, since they are estimated."""
    tau_safe: float
    """Mean τ of safe requests."""
    tau_unsafe: float
    """Mean τ of unsafe requests."""
    asymptotic_auroc: float | None
    """AUROC that class means of unlimited requests would give (`geometry.asymptotic_auroc`); None where their
    difference is no larger than its noise."""
    asymptotic_auroc_low: float
    """Lower end of its 95 % interval over requests, those of the means among them."""
    asymptotic_auroc_high: float
    """Upper end of that interval."""
    shuffled_normalised: float | None
    """Mean normalised gap over shuffles of the labels that give the means; None if undefined for all."""
    shuffled_auroc: float
    """Mean AUROC over these shuffles."""


def cluster_rows(
    model: PreTrainedModel,
    fit: tuple[Requests, Requests],
    score: Mapping[str, tuple[Requests, Requests]],
    *,
    n_groups: int = 1,
    seed: int,
) -> list[ClusterRow]:
    """Separation of safe and unsafe requests at every layer, with shuffled labels as a control.

    Args:
        model: The model.
        fit: Safe and unsafe requests that give the class means; they should share no texts with `score`.
        score: Safe and unsafe requests that are scored, by name.
        n_groups: Number of grammars, which have equal weight in the means.
        seed: Seed of the shuffles.

    Returns:
        One row per scored pair and layer.

    Raises:
        ValueError: If a class has fewer than 2 requests to fit on.
    """
    n_safe, n_unsafe = map(len, fit)
    if min(n_safe, n_unsafe) < 2:
        raise ValueError(
            f"{n_safe} safe and {n_unsafe} unsafe requests to fit on: expected at least 2 of each class, so "
            "that labels can be shuffled"
        )
    means, *shuffled = _fit(model, fit, n_groups, N_SHUFFLES, seed)
    rows = []
    for name, (safe_requests, unsafe_requests) in score.items():
        safe = end_of_text_activations(model, safe_requests, tau_sites(model))
        unsafe = end_of_text_activations(model, unsafe_requests, tau_sites(model))
        for layer in range(n_layers(model)):
            result = separation(means[layer], safe[layer], unsafe[layer])
            controls = [separation(c[layer], safe[layer], unsafe[layer]) for c in shuffled]
            normalised = [c.normalised for c in controls if c.normalised is not None]
            control = (fmean(normalised) if normalised else None, fmean(c.auroc for c in controls))
            exact = asymptotic_auroc(means[layer], safe[layer], unsafe[layer])
            rows.append(
                ClusterRow(
                    layer,
                    name,
                    **vars(result),
                    asymptotic_auroc=exact.value,
                    asymptotic_auroc_low=exact.low,
                    asymptotic_auroc_high=exact.high,
                    shuffled_normalised=control[0],
                    shuffled_auroc=control[1],
                )
            )
    return rows


def cluster_means(
    model: PreTrainedModel, fit: tuple[Requests, Requests], n_groups: int = 1
) -> list[ClassMeans]:
    """Means of safe and unsafe requests at the end of text, by layer."""
    return _fit(model, fit, n_groups, shuffles=0, seed=0)[0]


def _fit(
    model: PreTrainedModel, pair: tuple[Requests, Requests], n_groups: int, shuffles: int, seed: int
) -> list[list[ClassMeans]]:
    """Class means by layer, for the true labels and for each shuffle of them."""
    fitters = [[ClassMeanFitter(n_groups) for _ in tau_sites(model)] for _ in range(1 + shuffles)]
    random = torch.Generator().manual_seed(seed)
    for is_unsafe, requests in enumerate(pair):
        group = torch.from_numpy(requests.truth.get("grammar", np.zeros(len(requests), dtype=np.int64)))
        labels = [torch.full((len(group),), bool(is_unsafe))]
        labels += [_balanced_labels(group, random) for _ in range(shuffles)]
        for layer, activations in enumerate(end_of_text_activations(model, requests, tau_sites(model))):
            for layer_fitters, label in zip(fitters, labels, strict=True):
                _update(layer_fitters[layer], activations, group, label)
    return [[fitter.result for fitter in layer_fitters] for layer_fitters in fitters]


def _update(fitter: ClassMeanFitter, activations: Tensor, groups: Tensor, is_unsafe: Tensor) -> None:
    """Adds activations whose classes differ."""
    for value in (False, True):
        rows = is_unsafe == value
        fitter.update(activations[rows], unsafe=value, group=groups[rows])


def _balanced_labels(group: Tensor, random: torch.Generator) -> Tensor:
    """Random labels, (n,), half of each group.

    Unbalanced labels would tilt the control's means along the true difference: its AUROC would be near 0 or 1
    where the classes are well separated.
    """
    label = torch.zeros(len(group), dtype=torch.bool)
    for value in group.unique():
        rows = (group == value).nonzero()[:, 0]
        shuffled = rows[torch.randperm(len(rows), generator=random)]
        label[shuffled[: len(rows) // 2]] = True
    return label
