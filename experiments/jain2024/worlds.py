"""Checks of a world: detectability of "unsafe" by n-grams, and learnability of its branches."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.recipes.composition import TUNING_SEEDS, Preset
from experiments.recipes.learnability import check_learnable
from experiments.study import stored_rows
from makebreak.prompts import detectability_rows, load_world
from makebreak.store import Store


def detectability_table(world: str, store: Store, *, n: int) -> tuple[pd.DataFrame, Path]:
    """How well n-gram classifiers of text, of tasks and of both separate every family of a world.

    Args:
        world: Name of the world.
        store: Where the table is kept.
        n: Number of requests per family.

    Returns:
        The table, rows of `DetectabilityRow`, and the folder in which it is kept.
    """
    loaded = load_world(world)
    config = {"world_is": loaded.fingerprint, "n": n}
    rows, folder = stored_rows(
        *(store, "detectability", 3, config),
        lambda _: detectability_rows(loaded, n_requests=n, seed=TUNING_SEEDS[0]),
    )
    return pd.DataFrame(rows), folder


def check_gates(preset: Preset, world: str, store: Store) -> None:
    """Checks that the study's world, and the others in which models are attacked, can be learnt."""
    for name in (world, *preset.other_worlds(world)):
        check_learnable(preset, name, store)
