"""Recipes of models from their records in a store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from makebreak.configs import from_json
from makebreak.prompts import load_world
from makebreak.recipes.config import Recipe


def read_recipe(record: Mapping[str, Any]) -> Recipe | None:
    """The recipe of a model that `build` has made.

    Args:
        record: Record of the model (`makebreak.store.record`).

    Returns:
        The recipe; None if its world, or an objective or a mitigation of a user's, has changed since.

    Raises:
        KeyError: If the record is not that of a model of a world.
        ValueError: If this program knows no such recipe or no such world.
    """
    config = dict(record["config"])
    if config.pop("world_is") != load_world(config["world"]).fingerprint:
        return None
    digests = {name: config.pop(name) for name in [name for name in config if name.endswith(" is")]}
    recipe = from_json(Recipe, config)
    return recipe if digests == recipe.source_digests() else None
