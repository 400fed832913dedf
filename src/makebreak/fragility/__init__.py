"""Which measures predict that safety breaks: statistics on a table of models, and scores of new measures."""

from makebreak.fragility.grid import ModelGrid, model_grids, orientation
from makebreak.fragility.models import Training, choose_models, read_zoo, trainings
from makebreak.fragility.rows import AssociationRow, ModelPredictionRow
from makebreak.fragility.score import load_measure, score_measure
from makebreak.fragility.table import association_table, prediction_table

__all__ = [
    "AssociationRow",
    "ModelGrid",
    "ModelPredictionRow",
    "Training",
    "association_table",
    "choose_models",
    "load_measure",
    "model_grids",
    "orientation",
    "prediction_table",
    "read_zoo",
    "score_measure",
    "trainings",
]
