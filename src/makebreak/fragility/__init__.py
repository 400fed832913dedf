"""Statistics of the study: associations of predictors with outcomes, and predictions of unseen mechanisms."""

from makebreak.fragility.grid import ModelGrid, model_grids, orientation
from makebreak.fragility.rows import AssociationRow, ModelPredictionRow
from makebreak.fragility.table import association_table, prediction_table

__all__ = [
    "AssociationRow",
    "ModelGrid",
    "ModelPredictionRow",
    "association_table",
    "model_grids",
    "orientation",
    "prediction_table",
]
