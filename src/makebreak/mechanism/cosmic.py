"""Selection of a refusal direction by cosines of states, without a token of a refusal (COSMIC).

Siu et al. 2025 (arXiv 2506.00085). Candidates are the differences of class means of Arditi et al. 2024. E is
the tenth of the layers whose mean states of harmful and harmless requests have the least cosine. With v the
mean, over the requests of a class, of the states at the end of the prompt after the layers of E, one layer
after another, a candidate has two scores: the cosine of v of harmless requests with the states of harmful
ones under ablation, and that of v of harmful requests with the states of harmless ones under addition. The
candidate with the greatest sum is selected among those whose ablation keeps the KL of the decision on
harmless requests small and that are not in the last layers.

Two criteria are our own, for the published selection always selects something: the classes must differ on
the held-out requests, and a candidate must move both of them towards the other class.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import PreTrainedModel

from makebreak.activations import add, intervene
from makebreak.evaluation import decision_kl, next_token_log_probs
from makebreak.mechanism.directions import (
    DIRECTION_SETTINGS,
    DirectionSettings,
    SafeUnsafeRequests,
    ablate_directions,
    exclusion_reason,
    mean_differences,
)
from makebreak.mechanism.end_of_text import end_of_text_activations
from makebreak.models import n_layers
from makebreak.prompts import Requests
from makebreak.revisions import cache_revision

LAYER_SHARE = 0.1
"""Share of the layers whose states are compared."""
MIN_STANDARD_ERRORS = 3.0
"""Least difference of the classes, in standard errors, on the held-out requests."""


class CosmicRow(NamedTuple):
    """One candidate for a refusal direction; scores are None where it was not evaluated."""

    layer: int
    """Layer before which the states are taken and the vector is added."""
    ablation_cosine: float | None
    """Cosine of harmful requests under ablation with the mean of harmless ones, mean over requests."""
    addition_cosine: float | None
    """Cosine of harmless requests under addition with the mean of harmful ones, mean over requests."""
    kl: float | None
    """KL of the decision on harmless requests under ablation, mean, nats."""
    reason: str
    """Reason why the candidate is rejected; empty if it meets all criteria."""
    is_selected: bool
    """Whether it is the candidate with the greatest sum of cosines among those that meet all criteria."""


class _Reference(NamedTuple):
    """Means that states are compared with."""

    sites: list[str]
    """Outputs of the layers of E."""
    safe: Float[Tensor, " d"]
    """Mean of the safe class, the layers of E one after another."""
    unsafe: Float[Tensor, " d"]
    """That of the unsafe class."""


@cache_revision(1)
def cosmic_rows(
    model: PreTrainedModel,
    fit: SafeUnsafeRequests,
    score: SafeUnsafeRequests,
    *,
    settings: DirectionSettings = DIRECTION_SETTINGS,
    progress: Callable[[int], object] = lambda _: None,
) -> list[CosmicRow]:
    """Selects a refusal direction by COSMIC.

    Args:
        model: The model.
        fit: Requests that give the candidates and the means; they should share no texts with `score`.
        score: Requests on which the interventions are evaluated.
        settings: The largest KL, and the layers whose vectors are candidates.
        progress: Called with 1 after every candidate.

    Returns:
        One row per layer.
    """
    reference = _reference(model, fit)
    base_log_p = next_token_log_probs(model, score.safe, narrow=True).double()
    base_ablation = _cosines(model, score.unsafe, reference.sites, reference.safe)
    base_addition = _cosines(model, score.safe, reference.sites, reference.unsafe)
    gaps = (
        (_cosines(model, score.safe, reference.sites, reference.safe), base_ablation),
        (_cosines(model, score.unsafe, reference.sites, reference.unsafe), base_addition),
    )
    is_separate = all(_standard_errors(own, other) > MIN_STANDARD_ERRORS for own, other in gaps)
    rows = []
    for layer, vector in enumerate(mean_differences(model, fit)):
        row = CosmicRow(layer, None, None, None, "", False)
        progress(1)
        excluded = exclusion_reason(layer, n_layers(model), vector, settings)
        if excluded:
            rows.append(row._replace(reason=excluded))
            continue
        unit = (vector / vector.norm()).float()
        with ablate_directions(model, unit[:, None]):
            log_p = next_token_log_probs(model, score.safe, narrow=True).double()
            ablation = _cosines(model, score.unsafe, reference.sites, reference.safe)
        with intervene(model, f"blocks.{layer}.hook_resid_pre", add(vector.float())):
            addition = _cosines(model, score.safe, reference.sites, reference.unsafe)
        row = row._replace(
            ablation_cosine=_mean(ablation),
            addition_cosine=_mean(addition),
            kl=_mean(decision_kl(base_log_p, log_p)),
        )
        bases = _mean(base_ablation), _mean(base_addition)
        rows.append(row._replace(reason=_rejection(row, bases, settings, is_separate=is_separate)))
    candidates = [row for row in rows if not row.reason]
    best = max(candidates, key=lambda row: row.ablation_cosine + row.addition_cosine, default=None)
    return [row._replace(is_selected=row is best) for row in rows]


def _reference(model: PreTrainedModel, fit: SafeUnsafeRequests) -> _Reference:
    """The layers of E, and the class means there."""
    sites = [f"blocks.{layer}.hook_resid_post" for layer in range(n_layers(model))]
    means = [
        [states.double().mean(dim=0) for states in end_of_text_activations(model, requests, sites)]
        for requests in (fit.safe, fit.unsafe)
    ]
    cosines = [float(cosine_similarity(a, b, dim=0)) for a, b in zip(*means, strict=True)]
    least = sorted(range(len(sites)), key=cosines.__getitem__)[: math.ceil(LAYER_SHARE * len(sites))]
    safe, unsafe = (torch.cat([of_class[layer] for layer in sorted(least)]) for of_class in means)
    return _Reference([sites[layer] for layer in sorted(least)], safe, unsafe)


def _cosines(
    model: PreTrainedModel, requests: Requests, sites: list[str], mean: Float[Tensor, " d"]
) -> Float[Tensor, " n"]:
    """Cosine of the states of each request with a mean."""
    states = torch.cat(end_of_text_activations(model, requests, sites), dim=1).double()
    return cosine_similarity(states, mean[None], dim=1)


def _mean(values: Float[Tensor, " n"]) -> float:
    return float(values.mean())


def _standard_errors(own: Float[Tensor, " n"], other: Float[Tensor, " m"]) -> float:
    """Difference of two means in standard errors, at least the rounding of the states."""
    error = (own.var() / len(own) + other.var() / len(other)).sqrt().clamp(min=1e-6)
    return float((own.mean() - other.mean()) / error)


def _rejection(
    row: CosmicRow, bases: tuple[float, float], settings: DirectionSettings, *, is_separate: bool
) -> str:
    """Reason why an evaluated candidate is rejected; empty if it meets the criteria."""
    assert row.kl is not None
    assert row.ablation_cosine is not None
    assert row.addition_cosine is not None
    if not is_separate:
        return "the classes do not differ on the held-out requests"
    if row.kl > settings.max_kl:
        return f"ablation moves safe requests by {row.kl:.2f} nats, more than {settings.max_kl:g}"
    if row.ablation_cosine <= bases[0]:
        return f"ablated harmful requests have a cosine of {row.ablation_cosine:.3f}, no more than before"
    if row.addition_cosine <= bases[1]:
        return f"harmless requests with it have a cosine of {row.addition_cosine:.3f}, no more than before"
    return ""
