"""Statistics of the study: associations of predictors with outcomes, and predictions of unseen mechanisms."""

from experiments.fragility.analysis.grid import ModelGrid, model_grids, orientation
from experiments.fragility.analysis.rows import AssociationRow, ModelPredictionRow
from experiments.fragility.analysis.table import association_table, prediction_table

__all__ = [
    "AssociationRow",
    "ModelGrid",
    "ModelPredictionRow",
    "association_table",
    "model_grids",
    "orientation",
    "prediction_table",
]
