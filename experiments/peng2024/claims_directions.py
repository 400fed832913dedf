"""Claims about directions: random and steeper ones, other parametrisations, and variants of the model."""

from __future__ import annotations

from functools import partial

import pandas as pd

from experiments.peng2024.claim_values import (
    OF_PAPER,
    PRIMARY_ROLE,
    ModelTables,
    make_claim,
    mean_of_methods,
    ratio,
)
from experiments.peng2024.variants import variant_value
from makebreak.claims import Claim, for_each_seed

CHEN = "Chen et al. 2026"

MIN_DIRECTIONS = 4
"""Directions with a VISAGE that T9 needs."""
_PUBLISHED_DIRECTIONS = 3


def _visages(model: ModelTables) -> pd.Series | None:
    values = model.basins_along("random").sort_values("direction_index").visage.dropna()
    return None if len(values) < MIN_DIRECTIONS else values


def _spread_of_visage(model: ModelTables) -> float | None:
    values = _visages(model)
    return None if values is None else float(values.std(ddof=1))


def _error_of_three(model: ModelTables) -> float | None:
    values = _visages(model)
    return None if values is None else abs(float(values[:_PUBLISHED_DIRECTIONS].mean() - values.mean()))


def _width_relative_to_random(direction: str, model: ModelTables) -> float | None:
    """Smaller half-width in a direction relative to random ones."""
    return ratio(model.width("smaller_half_width", direction), model.width("smaller_half_width"))


def _parametrisation_change(model: ModelTables, direction: str, reference: str, column: str) -> float | None:
    """Change of a width between parametrisations, same directions: of VISAGE in percent, else relative."""
    basins, references = model.basins_along(direction), model.basins_along(reference)
    same_directions = references[references["direction_index"].isin(basins["direction_index"])]
    reference_width, width = same_directions[column].dropna().mean(), basins[column].dropna().mean()
    change = width - reference_width
    return float(change) if column == "visage" else ratio(float(change), float(reference_width))


def _absolute_change(direction: str, reference: str, column: str, model: ModelTables) -> float | None:
    change = _parametrisation_change(model, direction, reference, column)
    return None if change is None else abs(change)


DIRECTION_CLAIMS = (
    make_claim(
        "T7",
        for_each_seed(partial(variant_value, "with")),
        "A system prompt that was present in alignment deepens the basin",
        "VISAGE with it minus without, aligned with it",
        "percent",
        **OF_PAPER,
    ),
    make_claim(
        "T7.everywhere",
        for_each_seed(partial(variant_value, "points")),
        "More is refused with that system prompt at nearly every point",
        "share of points of the basin where more is refused with it",
        "share of points",
        bound=0.8,
        no_effect=0.5,
        **OF_PAPER,
    ),
    make_claim(
        "T7.absent",
        for_each_seed(partial(variant_value, "without")),
        "A model aligned without a system prompt is safer on requests without one",
        "VISAGE without it minus with, aligned without",
        "percent",
    ),
    Claim(
        id="T9",
        statement="VISAGE depends little on the random directions",
        parts=("T9.spread", "T9.three"),
        **OF_PAPER,
    ),
    make_claim(
        "T9.spread",
        mean_of_methods(_spread_of_visage),
        "VISAGE of single directions varies little",
        "standard deviation over random directions",
        "percent",
        side="below",
        bound=3.0,
        **OF_PAPER,
    ),
    make_claim(
        "T9.three",
        mean_of_methods(_error_of_three),
        "The mean of three directions is that of all",
        "absolute difference of the mean of three directions from that of all",
        "percent",
        side="below",
        bound=2.0,
        **OF_PAPER,
    ),
    make_claim(
        "T11",
        for_each_seed(partial(variant_value, "refusal")),
        "Larger models have wider basins",
        "half-width of refusal, widest model minus narrowest, at one learning rate; undefined if censored",
        "relative norm",
        **OF_PAPER,
    ),
    make_claim(
        "T11.able",
        for_each_seed(partial(variant_value, "ability")),
        "Larger models have wider basins of ability",
        "half-width of answering safe requests, widest model minus narrowest; undefined if censored",
        "relative norm",
    ),
    make_claim(
        "P3",
        mean_of_methods(partial(_width_relative_to_random, "worst")),
        "In the worst direction the basin ends much sooner than in random ones",
        "smaller half-width in the worst direction relative to random ones",
        "ratio",
        side="below",
        bound=0.5,
        no_effect=1.0,
        source=CHEN,
        **PRIMARY_ROLE,
    ),
    make_claim(
        "P3.fine_tuning",
        mean_of_methods(partial(_width_relative_to_random, "fine-tuning")),
        "In the direction of harmful fine-tuning the basin ends much sooner",
        "smaller half-width there relative to random directions",
        "ratio",
        side="below",
        bound=0.5,
        no_effect=1.0,
        source=CHEN,
    ),
    make_claim(
        "P3.ablation",
        mean_of_methods(partial(_width_relative_to_random, "ablation")),
        "In the direction of the weight edit that ablates the difference of means the basin ends much sooner",
        "smaller half-width there relative to random directions",
        "ratio",
        side="below",
        bound=0.5,
        no_effect=1.0,
    ),
    make_claim(
        "P7",
        mean_of_methods(partial(_absolute_change, "rescaled", "random", "r50")),
        "The half-width depends on the parametrisation of the same function",
        "absolute relative change of the half-width where units' gains are exp N(0, 1); it grows with them",
        "relative",
        bound=0.1,
        no_effect=0.0,
    ),
    make_claim(
        "P7.visage",
        mean_of_methods(partial(_absolute_change, "rescaled", "random", "visage")),
        "VISAGE depends on the parametrisation of the same function",
        "absolute change of VISAGE where units' gains are exp N(0, 1); it grows with them",
        "percent",
        bound=2.0,
        no_effect=0.0,
    ),
    make_claim(
        "P7.folded",
        mean_of_methods(partial(_absolute_change, "folded", "folded own", "r50")),
        "With gains folded in, the half-width does not depend on it",
        "absolute relative change of the half-width, gains folded, under reparametrisation",
        "relative",
        side="below",
        bound=0.02,
        source="settings",
        role="check",
    ),
)
"""Claims about directions and variants."""
