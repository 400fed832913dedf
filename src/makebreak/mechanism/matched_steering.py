"""Activation steering with several vectors at a matched disturbance of safe requests.

Each vector is scaled until adding it to safe requests changes their decision by the same KL as the difference
of class means does. It is then added to safe and subtracted from unsafe requests, and the refusal margins are
compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.evaluation import PrefixCachedRunner, decision_kl, first_tokens, log_odds
from makebreak.geometry import MomentFitter
from makebreak.mechanism.directions import SafeUnsafeRequests
from makebreak.mechanism.end_of_text import end_of_text_activations

N_BISECTIONS = 12
MAX_SCALE = 64
MATCH_TOLERANCE = 0.9
"""Least share of the target KL at which a vector counts as matched."""


class MatchedSteeringRow(NamedTuple):
    """One vector, added at the end of text before a layer. Margins are mean log-odds of the refusal, nats."""

    layer: int
    """Layer before which the vector is added."""
    kind: str
    """`difference` of class means; `shuffled` labels; `other_label`, a label that is not about safety;
    `covariance`, drawn with the covariance of the states; `random`."""
    scale: float
    """Factor of the vector, in units of the difference's length; 1 for the difference."""
    kl: float
    """KL of the decision on safe requests, nats; equal for all vectors up to rounding if matched."""
    kl_is_matched: bool
    """Whether a scale reaches the target KL."""
    safe_margin: float
    """Margin on safe requests with the vector added."""
    unsafe_margin: float
    """Margin on unsafe requests with the vector subtracted."""
    safe_baseline: float
    """Margin on safe requests without a vector."""
    unsafe_baseline: float
    """Margin on unsafe requests without a vector."""


def matched_steering_rows(
    model: PreTrainedModel,
    fit: SafeUnsafeRequests,
    score: SafeUnsafeRequests,
    *,
    control_labels: Int[Tensor, " n"] | None = None,
    layer: int,
    seed: int,
) -> list[MatchedSteeringRow]:
    """Steers with the difference of means and with control vectors of the same disturbance.

    Args:
        model: The model.
        fit: Requests that give the means.
        score: Requests that are steered.
        control_labels: A label of the requests of `fit`, safe ones first, that is not about safety; its
            control is the difference of the means above and not above the label's mean.
        layer: Layer before which vectors are added.
        seed: Seed of the control vectors.

    Returns:
        One row per vector.
    """
    site, random = f"blocks.{layer}.hook_resid_pre", torch.Generator().manual_seed(seed)
    safe_runner = PrefixCachedRunner.create(model, score.safe)
    unsafe_runner = PrefixCachedRunner.create(model, score.unsafe)
    safe_refusal, unsafe_refusal = first_tokens(score.safe, "refused"), first_tokens(score.unsafe, "refused")
    safe_log_p = safe_runner.next_token_log_probs().double()
    unsafe_log_p = unsafe_runner.next_token_log_probs().double()

    def disturbance(vectors: Tensor) -> Tensor:
        steered = safe_runner.next_token_log_probs(site, vectors[:, None]).double()
        return torch.stack([decision_kl(safe_log_p, log_p).mean() for log_p in steered])

    safe_states = end_of_text_activations(model, fit.safe, [site])[0].double()
    unsafe_states = end_of_text_activations(model, fit.unsafe, [site])[0].double()
    vectors = steering_vectors(safe_states, unsafe_states, control_labels, random)
    stacked = torch.stack(list(vectors.values()))
    target = float(disturbance(stacked[:1])[0])
    scales = torch.ones(len(stacked), dtype=torch.float64)  # the difference comes first, as it is
    scales[1:] = scale_to_disturbance(disturbance, stacked[1:], target)
    steering = (stacked * scales[:, None])[:, None]
    safe_steered = safe_runner.next_token_log_probs(site, steering).double()
    unsafe_steered = unsafe_runner.next_token_log_probs(site, -steering).double()
    baselines = (
        float(log_odds(safe_log_p, safe_refusal).mean()),
        float(log_odds(unsafe_log_p, unsafe_refusal).mean()),
    )
    rows = []
    for i, kind in enumerate(vectors):
        kl = float(decision_kl(safe_log_p, safe_steered[i]).mean())
        margins = (
            float(log_odds(safe_steered[i], safe_refusal).mean()),
            float(log_odds(unsafe_steered[i], unsafe_refusal).mean()),
        )
        matched = kl > MATCH_TOLERANCE * target
        rows.append(MatchedSteeringRow(layer, kind, float(scales[i]), kl, matched, *margins, *baselines))
    return rows


def steering_vectors(
    safe: Float[Tensor, "n d"],
    unsafe: Float[Tensor, "m d"],
    control_labels: Tensor | None,
    random: torch.Generator,
) -> dict[str, Tensor]:
    """The difference of class means and control vectors of the same norm.

    Args:
        safe: States of safe requests.
        unsafe: States of unsafe requests.
        control_labels: A label of all requests, safe ones first, that is not about safety; None leaves its
            vector out.
        random: Generator of the controls.

    Returns:
        Vectors by kind: `difference`, `shuffled`, `other_label`, `covariance` and `random`.

    Raises:
        ValueError: If all requests have the same control label.
    """
    states = torch.cat([safe, unsafe])
    difference = unsafe.mean(dim=0) - safe.mean(dim=0)
    order = torch.randperm(len(states), generator=random)
    fitter = MomentFitter()
    fitter.update(states)
    values, basis = torch.linalg.eigh(fitter.result.covariance)
    noise = torch.randn(len(values), generator=random, dtype=torch.float64)
    first, second = states[order[: len(safe)]], states[order[len(safe) :]]
    controls = {"shuffled": second.mean(dim=0) - first.mean(dim=0)}
    if control_labels is not None:
        above = control_labels > control_labels.double().mean()
        if not above.any():
            raise ValueError(
                f"control_labels: {len(control_labels)} requests have one label, expected two labels or more"
            )
        controls["other_label"] = states[above].mean(dim=0) - states[~above].mean(dim=0)
    controls["covariance"] = basis @ (values.clamp(min=0).sqrt() * noise)
    controls["random"] = torch.randn(len(values), generator=random, dtype=torch.float64)
    scaled = {kind: vector * difference.norm() / vector.norm() for kind, vector in controls.items()}
    return {"difference": difference} | scaled


def scale_to_disturbance(
    disturbance: Callable[[Float[Tensor, "m d"]], Float[Tensor, " m"]],
    vectors: Float[Tensor, "m d"],
    target: float,
) -> Float[Tensor, " m"]:
    """The scales at which vectors reach a disturbance, by bisection; the largest scale where none does.

    Args:
        disturbance: Disturbance of each of m vectors, increasing in its scale.
        vectors: The vectors, which are bisected together.
        target: The disturbance to reach.

    Returns:
        One scale per vector, float64.
    """
    low = torch.zeros(len(vectors), dtype=torch.float64)
    high = torch.ones_like(low)
    grows = torch.ones_like(low, dtype=torch.bool)
    while grows.any():
        grows &= (disturbance(vectors * high[:, None]) < target) & (high < MAX_SCALE)
        low, high = torch.where(grows, high, low), torch.where(grows, 2 * high, high)
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        is_short = disturbance(vectors * middle[:, None]) < target
        low, high = torch.where(is_short, middle, low), torch.where(is_short, high, middle)
    return high
