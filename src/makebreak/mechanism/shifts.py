"""Does a shift of the state do more than another shift that disturbs as much?

Vectors are compared at an equal disturbance of safe requests: each is scaled until adding it there moves the decision
by the same KL as the difference of means does. Then the same shift is added, and taken off, elsewhere.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.behaviour import Read, decision_kl, first_tokens, log_odds
from makebreak.geometry import MomentFitter
from makebreak.mechanism.directions import Pair
from makebreak.mechanism.end_of_text import collect

HALVINGS = 12


def shift_rows(
    model: PreTrainedModel,
    fit: Pair,
    score: Pair,
    *,
    other: Int[Tensor, " n"] | None = None,
    layer: int,
    seed: int,
) -> list[dict[str, Any]]:
    """One row per vector, shifted at the end of text before `layer`.

    difference: of the means of unsafe and safe requests. shuffled: of shuffled labels. other_label: of the requests of
    `fit` (safe ones first) whose `other` is above and not above its mean, a label that is not about safety.
    covariance: drawn with the covariance of the states. random: of no direction.
    scale: what the vector was multiplied by (in units of its own length for the difference, 1); kl: on safe requests,
    equal but for rounding, or None where no scale reaches it (then the row says so by `reached`). safe_margin,
    unsafe_margin: mean log-odds of the null where the shift is added to safe, and taken off unsafe requests; `before`,
    as `safe_before` and `unsafe_before`, without it.
    """
    site, random = f"blocks.{layer}.hook_resid_pre", torch.Generator().manual_seed(seed)
    read = {name: Read.of(model, requests) for name, requests in score._asdict().items()}
    null = {name: first_tokens(requests, "refused") for name, requests in score._asdict().items()}
    plain = {name: requests.decide().double() for name, requests in read.items()}

    def shifted(name: str, vector: Tensor) -> Tensor:
        return read[name].decide(site, vector).double()

    def disturbance(vector: Tensor) -> float:
        return float(decision_kl(plain["safe"], shifted("safe", vector)).mean())

    safe, unsafe = (collect(model, requests, [site])[0].double() for requests in fit)
    vectors = shift_vectors(safe, unsafe, other, random)
    target = disturbance(vectors["difference"])
    before = {f"{n}_before": float(log_odds(p, null[n]).mean()) for n, p in plain.items()}
    rows = []
    for kind, vector in vectors.items():
        scale = 1.0 if kind == "difference" else scale_to(disturbance, vector, target)
        moved = vector * scale
        kl = disturbance(moved)
        margins = {
            f"{name}_margin": float(log_odds(shifted(name, sign * moved), null[name]).mean())
            for name, sign in (("safe", 1), ("unsafe", -1))
        }
        rows.append(
            {"layer": layer, "kind": kind, "scale": scale, "kl": kl, "reached": kl > 0.9 * target, **margins}
        )
    return [row | before for row in rows]


def shift_vectors(
    safe: Float[Tensor, "n d"], unsafe: Float[Tensor, "m d"], other: Tensor | None, random: torch.Generator
) -> dict[str, Tensor]:
    """`difference` of the means, and by name what it is compared with, as in `shift_rows`; all as long as it."""
    both = torch.cat([safe, unsafe])
    difference = unsafe.mean(dim=0) - safe.mean(dim=0)
    order = torch.randperm(len(both), generator=random)
    fitter = MomentFitter()
    fitter.update(both)
    values, basis = torch.linalg.eigh(fitter.result.covariance)
    drawn = torch.randn(len(values), generator=random, dtype=torch.float64)
    found = {"shuffled": both[order[len(safe) :]].mean(dim=0) - both[order[: len(safe)]].mean(dim=0)}
    if other is not None:
        above = other > other.double().mean()
        if not above.any():
            raise ValueError(f"other: {len(other)} requests of one label, expected two kinds at least")
        found["other_label"] = both[above].mean(dim=0) - both[~above].mean(dim=0)
    found["covariance"] = basis @ (values.clamp(min=0).sqrt() * drawn)
    found["random"] = torch.randn(len(values), generator=random, dtype=torch.float64)
    return {"difference": difference} | {k: v * difference.norm() / v.norm() for k, v in found.items()}


def scale_to(disturbance: Any, vector: Tensor, target: float) -> float:
    """The scale at which a vector disturbs as much, found by bisection; the largest tried where none does."""
    low, high = 0.0, 1.0
    while disturbance(vector * high) < target and high < 64:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if disturbance(vector * middle) < target else (low, middle)
    return high
