"""Model organisms: a compiler of networks whose mechanism of refusal is planted, and therefore known."""

from makebreak.model_organisms.behaviour import PlantedBehaviour, predict
from makebreak.model_organisms.composites import COMPOSITES, MECHANISMS, VARIANTS, variant_table
from makebreak.model_organisms.parameters import Change, Parameters, Part
from makebreak.model_organisms.planted import draw_benchmark, plant, plant_at
from makebreak.model_organisms.planted_networks import PlantedNetworks, build_half
from makebreak.model_organisms.scoring import (
    Method,
    MethodAnswer,
    MethodRow,
    ScoreRow,
    confusion,
    is_right,
    is_wrong,
    method_rows,
    score,
    summarise,
)
from makebreak.model_organisms.settings import PlantSettings
from makebreak.model_organisms.variants import CONSTRUCTIONS

__all__ = [
    "COMPOSITES",
    "CONSTRUCTIONS",
    "MECHANISMS",
    "VARIANTS",
    "Change",
    "Method",
    "MethodAnswer",
    "MethodRow",
    "Parameters",
    "Part",
    "PlantSettings",
    "PlantedBehaviour",
    "PlantedNetworks",
    "ScoreRow",
    "build_half",
    "confusion",
    "draw_benchmark",
    "is_right",
    "is_wrong",
    "method_rows",
    "plant",
    "plant_at",
    "predict",
    "score",
    "summarise",
    "variant_table",
]
