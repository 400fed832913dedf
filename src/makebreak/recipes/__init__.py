"""Recipes of models: world, size, pretraining and alignments; `build` trains what a store lacks."""

from makebreak.recipes.building import REVISION, STACKS, build, build_all, checkpoints, kept_steps
from makebreak.recipes.config import ENGINE_VARIABLE, Alignment, Engine, Recipe

__all__ = [
    "ENGINE_VARIABLE",
    "REVISION",
    "STACKS",
    "Alignment",
    "Engine",
    "Recipe",
    "build",
    "build_all",
    "checkpoints",
    "kept_steps",
]
