"""Detectability of unsafe requests by n-gram classifiers of their text, per format and over all formats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import NamedTuple

from makebreak.prompts import load_world
from makebreak.revisions import cache_revision
from makebreak.stats import auroc
from makebreak.studies import Inputs, TableCell
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


@cache_revision(2)
def ngram_classifier_tables(inputs: Inputs) -> dict[str, Iterable[NgramClassifierRow]]:
    """Table `ngram_classifiers`: classifiers fitted to and scored on the text of safe and unsafe requests.

    Args:
        inputs: No models; settings are the name of the world, the formats and the seed.

    Returns:
        One row per format and length of the n-grams.
    """
    world, seed = load_world(inputs.settings["world"]), inputs.settings["seed"]
    rows = []
    for name, n in product((ALL_FORMATS, *inputs.settings["formats"]), ORDERS):
        prefix = "" if name == ALL_FORMATS else f"{name}_"
        families = (f"{prefix}safe", f"{prefix}unsafe")
        fit = [world.sample(family, N_REQUESTS, seed=seed) for family in families]
        score = [world.sample(family, N_REQUESTS, seed=seed, start=N_REQUESTS) for family in families]
        classifier = fit_ngram_classifier("text", n, *fit)
        safe, unsafe = classifier.log_odds(score[0]), classifier.log_odds(score[1])
        rows.append(NgramClassifierRow(name, n, auroc(positive=unsafe, negative=safe)))
    return {"ngram_classifiers": rows}


def ngram_classifier_cell(world: str, formats: Sequence[str], seed: int) -> TableCell:
    """Cell of the classifiers of one seed, which selects the requests.

    Args:
        world: Name of the world.
        formats: Formats of the requests.
        seed: The seed.

    Returns:
        The cell.
    """
    settings = {
        "world": world,
        "world_is": load_world(world).fingerprint,
        "n": N_REQUESTS,
        "orders": list(ORDERS),
        "seed": seed,
        "formats": list(formats),
    }
    return TableCell("formats-readers", ngram_classifier_tables, {"seed": seed}, settings)
