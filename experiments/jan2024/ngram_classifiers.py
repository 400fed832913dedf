"""Detectability of unsafe requests by n-gram classifiers of their text, per format and over all formats."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

from experiments.recipes.formats import Preset
from experiments.study import stored_rows
from makebreak.prompts import load_world
from makebreak.stats import auroc
from makebreak.store import Store
from synthetic.detectability import fit_ngram_classifier

ORDERS = (1, 2, 3, 4, 5, 6)
"""Lengths of the n-grams."""
N_REQUESTS = 4000
"""Requests per class that a classifier is fitted on, and as many that it is scored on."""
ALL_FORMATS = "all"
"""Name of the requests of all formats together."""


class NgramClassifierRow(NamedTuple):
    """Performance of one n-gram classifier on held-out requests."""

    format: str
    """Format of the requests, or `ALL_FORMATS`."""
    n: int
    """Length of the n-grams."""
    auroc: float
    """AUROC of unsafe against safe requests."""


def ngram_classifier_rows(
    preset: Preset, world: str, seed: int, store: Store
) -> tuple[list[NgramClassifierRow], Path]:
    """Fits and scores classifiers on the text of safe and unsafe requests.

    Args:
        preset: The preset.
        world: Name of the world.
        seed: Pretraining seed, which selects the requests.
        store: Store of the results.

    Returns:
        One row per format and length of the n-grams, and the folder that they came from.
    """
    loaded_world = load_world(world)

    def measure(folder: Path) -> Iterator[NgramClassifierRow]:
        for name, n in product((ALL_FORMATS, *preset.formats), ORDERS):
            prefix = "" if name == ALL_FORMATS else f"{name}_"
            families = (f"{prefix}safe", f"{prefix}unsafe")
            fit = [loaded_world.sample(family, N_REQUESTS, seed=seed) for family in families]
            score = [
                loaded_world.sample(family, N_REQUESTS, seed=seed, start=N_REQUESTS) for family in families
            ]
            classifier = fit_ngram_classifier("text", n, *fit)
            safe, unsafe = classifier.log_odds(score[0]), classifier.log_odds(score[1])
            yield NgramClassifierRow(name, n, auroc(positive=unsafe, negative=safe))

    config = {"world_is": loaded_world.fingerprint, "n": N_REQUESTS, "orders": list(ORDERS), "seed": seed}
    stored, folder = stored_rows(store, "formats-readers", 1, config, measure)
    return [NgramClassifierRow(**row) for row in stored], folder
