"""Which measures predict that safety breaks: statistics on a table of models, and scores of new measures."""

from makebreak.fragility.association import band_correlations, partial_band_correlations, seed_means
from makebreak.fragility.controls import ControlRow, control_table
from makebreak.fragility.grid import (
    BASELINES,
    CONFIRMATORY_SEEDS,
    COVARIATES,
    ModelGrid,
    model_grids,
    orientation,
    stages_of,
)
from makebreak.fragility.models import RECIPE, Training, choose_models, read_zoo, trainings
from makebreak.fragility.prediction import seed_r2
from makebreak.fragility.rows import AssociationRow, ModelPredictionRow
from makebreak.fragility.score import load_measure, score_measure
from makebreak.fragility.table import association_table, prediction_table

__all__ = [
    "BASELINES",
    "CONFIRMATORY_SEEDS",
    "COVARIATES",
    "RECIPE",
    "AssociationRow",
    "ControlRow",
    "ModelGrid",
    "ModelPredictionRow",
    "Training",
    "association_table",
    "band_correlations",
    "choose_models",
    "control_table",
    "load_measure",
    "model_grids",
    "orientation",
    "partial_band_correlations",
    "prediction_table",
    "read_zoo",
    "score_measure",
    "seed_means",
    "seed_r2",
    "stages_of",
    "trainings",
]
