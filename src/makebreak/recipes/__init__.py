"""Recipes of models: world, size, pretraining and alignments; `build` trains what a store lacks."""

from makebreak.recipes.building import (
    REVISION,
    STACKS,
    build,
    build_all,
    checkpoints,
    copy_lineage,
    install,
    kept_steps,
)
from makebreak.recipes.config import ENGINE_VARIABLE, Alignment, Engine, Recipe
from makebreak.recipes.named import BASE_RECIPES, BaseRecipe, base_recipe
from makebreak.recipes.recorded import read_recipe

__all__ = [
    "BASE_RECIPES",
    "ENGINE_VARIABLE",
    "REVISION",
    "STACKS",
    "Alignment",
    "BaseRecipe",
    "Engine",
    "Recipe",
    "base_recipe",
    "build",
    "build_all",
    "checkpoints",
    "copy_lineage",
    "install",
    "kept_steps",
    "read_recipe",
]
