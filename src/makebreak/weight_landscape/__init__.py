"""Safety landscapes: what a model does when its weights are perturbed, and how wide its safety basin is."""

from makebreak.weight_landscape.basins import (
    PLATEAU_REFERENCE,
    STRAIGHT_FALL,
    Basin,
    basin,
    crossing,
    plateau_share,
    visage,
    visage_bounds,
    visage_continuous,
    visage_released,
)
from makebreak.weight_landscape.directions import (
    Direction,
    Normalisation,
    ablation_direction,
    direction_to,
    perturbable_parameters,
    random_direction,
    relative_norm,
    rescale_to_norm,
    worst_direction,
)
from makebreak.weight_landscape.folding import fold_norms, norm_readers, rescale_norms
from makebreak.weight_landscape.perturbation import Perturbation, PointEvaluator, find_bracket
from makebreak.weight_landscape.walk import Answers, Landscape, OutcomeRates, Outcomes, outcome_rates
from makebreak.weight_landscape.widths import (
    CAPABILITY_THRESHOLD,
    CRITERIA,
    BasinRow,
    basin_rows,
    width_interval,
)

__all__ = [
    "CAPABILITY_THRESHOLD",
    "CRITERIA",
    "PLATEAU_REFERENCE",
    "STRAIGHT_FALL",
    "Answers",
    "Basin",
    "BasinRow",
    "Direction",
    "Landscape",
    "Normalisation",
    "OutcomeRates",
    "Outcomes",
    "Perturbation",
    "PointEvaluator",
    "ablation_direction",
    "basin",
    "basin_rows",
    "crossing",
    "direction_to",
    "find_bracket",
    "fold_norms",
    "norm_readers",
    "outcome_rates",
    "perturbable_parameters",
    "plateau_share",
    "random_direction",
    "relative_norm",
    "rescale_norms",
    "rescale_to_norm",
    "visage",
    "visage_bounds",
    "visage_continuous",
    "visage_released",
    "width_interval",
    "worst_direction",
]
