"""Safety landscapes: what a model does when its weights are perturbed, and how wide its safety basin is."""

from makebreak.landscape.basins import Basin, basin, crossing, visage, visage_released
from makebreak.landscape.directions import (
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
from makebreak.landscape.folding import fold_norms, norm_readers, rescale_norms
from makebreak.landscape.outcomes import (
    COMPLIANCE,
    OTHER,
    OUTCOMES_REVISION,
    REFUSAL,
    letter_share,
    outcome_letters,
)
from makebreak.landscape.perturbation import Perturbation, PointEvaluator, bisect, find_bracket
from makebreak.landscape.widths import (
    CAPABILITY_THRESHOLD,
    CRITERIA,
    BasinRow,
    basin_rows,
    width_interval,
)

__all__ = [
    "CAPABILITY_THRESHOLD",
    "COMPLIANCE",
    "CRITERIA",
    "OTHER",
    "OUTCOMES_REVISION",
    "REFUSAL",
    "Basin",
    "BasinRow",
    "Direction",
    "Normalisation",
    "Perturbation",
    "PointEvaluator",
    "ablation_direction",
    "basin",
    "basin_rows",
    "bisect",
    "crossing",
    "direction_to",
    "find_bracket",
    "fold_norms",
    "letter_share",
    "norm_readers",
    "outcome_letters",
    "perturbable_parameters",
    "random_direction",
    "relative_norm",
    "rescale_norms",
    "rescale_to_norm",
    "visage",
    "visage_released",
    "width_interval",
    "worst_direction",
]
