"""Model organisms: a compiler of networks whose mechanism of refusal is planted, and therefore known."""

from makebreak.organisms.constructions import MECHANISMS, VARIANTS
from makebreak.organisms.parameters import Parameters, Part, PlantSettings
from makebreak.organisms.planted import PlantedBehaviour, PlantedNetworks, draw_benchmark, plant

__all__ = [
    "MECHANISMS",
    "VARIANTS",
    "Parameters",
    "Part",
    "PlantSettings",
    "PlantedBehaviour",
    "PlantedNetworks",
    "draw_benchmark",
    "plant",
]
