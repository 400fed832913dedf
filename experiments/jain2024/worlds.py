"""Checks of a world: detectability of "unsafe" by n-grams, and learnability of its branches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from experiments.recipes.composition import TUNING_SEEDS, Preset
from experiments.recipes.learnability import check_learnable
from makebreak.prompts import detectability_rows, load_world
from makebreak.revisions import cache_revision
from makebreak.store import Store
from makebreak.studies import Inputs

DETECTABILITY_FACTOR = 4
"""Requests per family of the n-gram classifiers, as a multiple of those of the measures."""


@cache_revision(3)
def detectability_tables(inputs: Inputs) -> Mapping[str, Iterable[Any]]:
    """How well n-gram classifiers of text, of tasks and of both separate every family of a world.

    Args:
        inputs: Inputs with the settings `world`, its name, and `n`, the number of requests per family.

    Returns:
        The table `detectability`, rows of `DetectabilityRow`.
    """
    world = load_world(inputs.settings["world"])
    return {"detectability": detectability_rows(world, n_requests=inputs.settings["n"], seed=TUNING_SEEDS[0])}


def check_worlds(preset: Preset, world: str, store: Store) -> None:
    """Checks that the study's world, and the others in which models are attacked, can be learnt.

    Args:
        preset: Sizes of the study.
        world: Name of the world.
        store: Where the classifiers are kept.
    """
    for name in (world, *preset.other_worlds(world)):
        check_learnable(preset, name, store)
