"""Table of a stitching: probabilities, divergences and Fisher measures of the movement at every cut."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from transformers import PreTrainedModel

from makebreak.geometry import subspace_share
from makebreak.mechanism.fisher import LayerFisher, layer_fisher
from makebreak.mechanism.stitching import Stitching


class StitchingRow(NamedTuple):
    """Stitching at one cut: means over all requests; shares of 0 and 1 are those of base and tuned model."""

    layer: int
    """Number of blocks below the cut: 0 is after the embedding, `n_layers` before the final norm."""
    n_layers: int
    """Number of blocks."""
    n_requests: int
    """Number of requests."""
    n_flips: int
    """Requests whose likeliest first token begins the answer in the tuned model and not in the base."""
    base_probability: float
    """Probability of the answer's first token in the base."""
    tuned_probability: float
    """The same in the tuned model."""
    lower_share: float | None
    """Probability with the tuned model below the cut and the base above, as a share of tuned - base; None,
    here and below, where these are equal."""
    upper_share: float | None
    """The same with the base below the cut and the tuned model above."""
    direct_share: float | None
    """The same of the base with the movement of the cut added to its final states."""
    random_share: float | None
    """The same of the base with a random movement of the same norm at every position of the cut."""
    base_margin: float
    """Log-odds of the answer in the base, nats."""
    tuned_margin: float
    """Log-odds of the answer in the tuned model, nats."""
    lower_margin: float
    """Log-odds with the tuned model below the cut and the base above, nats."""
    upper_margin: float
    """Log-odds with the base below the cut and the tuned model above, nats."""
    random_margin: float
    """Log-odds of the base with the random movement, nats."""
    lower_margin_share: float | None
    """`lower_margin` as a share of tuned - base. A base that is merely confused gains log-odds too: a share
    below that of a uniform answer says nothing about a path to the refusal."""
    upper_margin_share: float | None
    """`upper_margin` as a share of tuned - base."""
    random_margin_share: float | None
    """`random_margin` as a share of tuned - base."""
    kl: float
    """KL(base ‖ base with the tuned lower part) of the next-token distribution, nats."""
    kl_share: float | None
    """`kl` as a share of KL(base ‖ tuned)."""
    fisher_null_fraction: float | None
    """Share of the last position's movement in the null space of the base's mean Fisher matrix; None, here
    and below, at the last cut and without a movement."""
    fisher_null_chance: float | None
    """The same share for a random movement: the null space's dimension over d_model."""
    fisher_gain: float | None
    """δᵀFδ of the last position's movement, request by request, in units of a random direction's."""


def stitching_rows(stitching: Stitching, *, base: PreTrainedModel, seed: int) -> list[StitchingRow]:
    """Summarises a stitching by cut.

    Args:
        stitching: Result of `stitch`.
        base: Its base model, for the Fisher matrices.
        seed: Seed of the Fisher matrices' Gaussian vectors.

    Returns:
        One row per cut.
    """
    inner = [i for i, cut in enumerate(stitching.cuts) if cut < stitching.n_layers]
    movement = stitching.movement.new_zeros(stitching.n_layers, *stitching.movement.shape[1:])
    movement[[stitching.cuts[i] for i in inner]] = stitching.movement[inner]
    fishers = layer_fisher(base, stitching.requests, movement, seed=seed)
    tuned_kl = float(stitching.tuned_kl.mean())
    margins = float(stitching.base_log_odds.mean()), float(stitching.tuned_log_odds.mean())
    p = _mean_probability(stitching.base_log_odds), _mean_probability(stitching.tuned_log_odds)
    rows = []
    for i, cut in enumerate(stitching.cuts):
        lower, upper, direct, random = (
            column[i] for column in (stitching.lower, stitching.upper, stitching.direct, stitching.random)
        )
        fisher = fishers[cut] if cut < stitching.n_layers else None
        kl = float(stitching.kl[i].mean())
        rows.append(
            StitchingRow(
                layer=cut,
                n_layers=stitching.n_layers,
                n_requests=len(stitching.changes),
                n_flips=int(stitching.changes.sum()),
                base_probability=p[0],
                tuned_probability=p[1],
                lower_share=_share(_mean_probability(lower), *p),
                upper_share=_share(_mean_probability(upper), *p),
                direct_share=_share(_mean_probability(direct), *p),
                random_share=_share(_mean_probability(random), *p),
                base_margin=margins[0],
                tuned_margin=margins[1],
                lower_margin=float(lower.mean()),
                upper_margin=float(upper.mean()),
                random_margin=float(random.mean()),
                lower_margin_share=_share(float(lower.mean()), *margins),
                upper_margin_share=_share(float(upper.mean()), *margins),
                random_margin_share=_share(float(random.mean()), *margins),
                kl=kl,
                kl_share=kl / tuned_kl if tuned_kl > 0 else None,
                **_fisher_columns(fisher, stitching.movement[i]),
            )
        )
    return rows


def _mean_probability(log_odds: Tensor) -> float:
    return float(log_odds.sigmoid().mean())


def _share(value: float, base: float, tuned: float) -> float | None:
    return (value - base) / (tuned - base) if tuned != base else None


def _fisher_columns(fisher: LayerFisher | None, movement: Tensor) -> dict[str, float | None]:
    """Null fraction, its chance and the gain; None without a matrix or a movement."""
    columns: dict[str, float | None] = dict.fromkeys(
        ("fisher_null_fraction", "fisher_null_chance", "fisher_gain")
    )
    if fisher is None or not movement.any():
        return columns
    null = fisher.null_space()
    shares = subspace_share(movement[movement.any(dim=1)], null)
    if shares is None:
        return columns
    return {
        "fisher_null_fraction": float(shares.mean()),
        "fisher_null_chance": null.chance,
        "fisher_gain": fisher.gain,
    }
