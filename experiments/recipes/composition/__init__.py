"""Models of the composition worlds by arm, and the presets at which studies train them."""

from experiments.recipes.composition.arms import (
    ARMS,
    CONSTRAINED_ARMS,
    CORE_ARMS,
    DOSE_ARMS,
    EVEN,
    EXTRAPOLATED_ARMS,
    FACTOR_ARMS,
    MATCHED_CONTROLS,
    METHODS,
    OBJECTIVES,
    PUBLISHED_ARMS,
    Mixture,
)
from experiments.recipes.composition.paper import PAPER_PRESETS
from experiments.recipes.composition.preset import Preset
from experiments.recipes.composition.presets import ALL, MINI, RATE_GRID, SMALL, SMOKE, TUNING_SEEDS
from experiments.recipes.composition.series import SERIES

PRESETS = {preset.name: preset for preset in (SMOKE, MINI, SMALL, ALL)} | {**PAPER_PRESETS, **SERIES}
"""Presets by name."""

__all__ = [
    "ARMS",
    "CONSTRAINED_ARMS",
    "CORE_ARMS",
    "DOSE_ARMS",
    "EVEN",
    "EXTRAPOLATED_ARMS",
    "FACTOR_ARMS",
    "MATCHED_CONTROLS",
    "METHODS",
    "OBJECTIVES",
    "PRESETS",
    "PUBLISHED_ARMS",
    "RATE_GRID",
    "SMOKE",
    "TUNING_SEEDS",
    "Mixture",
    "Preset",
]
