"""Checks of a world: detectability of "unsafe" by n-grams, and learnability of its branches."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from experiments.recipes.composition import TUNING_SEEDS, Preset
from experiments.recipes.learnability import check_learnable
from makebreak.prompts import detectability_rows, load_world
from makebreak.store import Store, write_json
from makebreak.tables import as_dicts


def detectability_table(world: str, store: Store, *, n: int) -> tuple[pd.DataFrame, Path]:
    """How well n-gram classifiers of text, of tasks and of both separate every family of a world.

    Args:
        world: Name of the world.
        store: Where the table is kept.
        n: Number of requests per family.

    Returns:
        The table, rows of `DetectabilityRow`, and the folder in which it is kept.
    """

    def make(folder: Path) -> None:
        rows = detectability_rows(load_world(world), n_requests=n, seed=TUNING_SEEDS[0])
        write_json(folder / "rows.json", as_dicts(rows))

    config = {"world_is": load_world(world).fingerprint, "n": n}
    folder = store.build("detectability", revision=2, config=config, make=make)
    return pd.DataFrame(json.loads((folder / "rows.json").read_text())), folder


def check_gates(preset: Preset, world: str, store: Store) -> None:
    """Checks that the study's world, and the others in which models are attacked, can be learnt.

    Args:
        preset: Sizes of the study.
        world: The study's world.
        store: Where the classifiers are kept.

    Raises:
        ValueError: If one of them cannot be learnt.
    """
    for name in (world, *preset.other_worlds(world)):
        check_learnable(preset, name, store)
