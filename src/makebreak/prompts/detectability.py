"""Detectability of "unsafe" in the requests of a world, by n-gram classifiers of text and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from makebreak.stats import auroc
from synthetic import Family, World
from synthetic.detectability import FEATURES, fit_ngram_classifier


class DetectabilityRow(NamedTuple):
    """Performance of one n-gram classifier on one family of a world."""

    family: str
    """Name of the family."""
    features: str
    """What the classifier sees, one of FEATURES."""
    order: int
    """Order of its n-grams."""
    predicted_unsafe: float
    """Share of requests with log-odds above 0; log-odds of 0 count half."""
    auroc: float
    """AUROC against the family `safe`, or `context_safe` for the families `context_*`; ties count half."""


def detectability_rows(
    world: World, *, n_requests: int = 2000, seed: int = 0, orders: Sequence[int] = (1, 2, 3, 4, 5, 6)
) -> list[DetectabilityRow]:
    """Performance of each n-gram classifier of each order on each family but those of pretraining.

    The classifiers are fitted to the first `n_requests` of `safe` and of `unsafe` (split `train`): a safe
    request and the unsafe one of the same number share their text, as in safety tuning (Jain et al. 2024), so
    that the sampling of texts adds no difference between the classes. They are scored on the `n_requests`
    that follow (split `any`, whose texts a small world may have shown before). A classifier without
    information scores 0.5 in both columns.

    Args:
        world: World with the families `safe` and `unsafe`.
        n_requests: Requests of each family.
        seed: Seed of the requests.
        orders: Orders of the n-grams.

    Returns:
        One row per family, features and order.

    Raises:
        ValueError: If `fit_ngram_classifier` or `world.sample` refuses an argument.
    """
    train = [world.sample(name, n_requests, seed=seed, split="train") for name in ("safe", "unsafe")]
    classifiers = [fit_ngram_classifier(name, order, *train) for name in FEATURES for order in orders]
    families = [name for name in world.families if not Family.parse(name).is_pretraining]
    scores = {}
    for name in families:
        requests = world.sample(name, n_requests, seed=seed, start=n_requests, split="any")
        scores[name] = [classifier.log_odds(requests) for classifier in classifiers]
    rows = []
    for name in families:
        control = scores["context_safe" if name in ("context_safe", "context_unsafe") else "safe"]
        for classifier, log_odds, safe in zip(classifiers, scores[name], control, strict=True):
            rows.append(
                DetectabilityRow(
                    family=name,
                    features=classifier.features,
                    order=classifier.order,
                    predicted_unsafe=float(np.heaviside(log_odds, 0.5).mean()),
                    auroc=auroc(positive=log_odds, negative=safe),
                )
            )
    return rows
