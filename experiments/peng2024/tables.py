"""Tables computed from those of the cells: basins, predictors, predictions, variants beside the own width."""

from __future__ import annotations

import pandas as pd

from experiments.peng2024.landscapes import INTERPOLATION_PREFIX
from experiments.peng2024.prediction import prediction_table
from experiments.peng2024.predictors import predictor_rows
from experiments.peng2024.presets import WITH_SYSTEM
from experiments.peng2024.variants import rows_of_preset_width, variant_basins
from makebreak.claims import Tables, rows_of
from makebreak.weight_landscape import basin_rows


def basins(tables: Tables) -> pd.DataFrame:
    """Widths of every model, kind of direction and direction; lines to other models have none."""
    curves = tables["curves"]
    is_line = curves.direction.str.startswith(INTERPOLATION_PREFIX)
    return basin_rows(curves[~is_line], ("seed", "arm", "direction", "direction_index"))


def variants(tables: Tables) -> pd.DataFrame:
    """Variants, with the SSFT model of the preset's own width."""
    rows = rows_of(tables, "variants")
    d_model = int(rows_of(tables, "variants", arm=WITH_SYSTEM).d_model.iloc[0])  # that of the preset
    return pd.concat([rows_of_preset_width(tables["curves"], d_model), rows], ignore_index=True)


DERIVED = {
    "basins": basins,
    "predictors": predictor_rows,
    "predictions": prediction_table,
    "variants": variants,
    "variant_basins": variant_basins,
}
"""Tables by name, in the order in which they are computed."""
