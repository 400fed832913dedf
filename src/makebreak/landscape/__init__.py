"""How far may the weights move before safety is lost, and before everything is?"""

from makebreak.landscape.basins import Basin, basin, crossing, visage, visage_as_coded
from makebreak.landscape.directions import (
    Direction,
    Per,
    ablation,
    at_norm,
    movable,
    random_direction,
    relative_norm,
    toward,
    worst_direction,
)
from makebreak.landscape.folding import folded, norms, rescaled
from makebreak.landscape.outcomes import COMPLIED, NEITHER, OUTCOMES_REVISION, REFUSED, labels, share
from makebreak.landscape.walking import Points, Walk, bracket, edge
from makebreak.landscape.widths import ABLE, SENSES, basin_rows, width_interval

__all__ = [
    "ABLE",
    "COMPLIED",
    "NEITHER",
    "OUTCOMES_REVISION",
    "REFUSED",
    "SENSES",
    "Basin",
    "Direction",
    "Per",
    "Points",
    "Walk",
    "ablation",
    "at_norm",
    "basin",
    "basin_rows",
    "bracket",
    "crossing",
    "edge",
    "folded",
    "labels",
    "movable",
    "norms",
    "random_direction",
    "relative_norm",
    "rescaled",
    "share",
    "toward",
    "visage",
    "visage_as_coded",
    "width_interval",
    "worst_direction",
]
