"""Tables of the study: every predictor with every outcome, and predictions of outcomes from predictors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from makebreak.errors import InvalidInput
from makebreak.fragility.association import (
    NO_ASSOCIATION,
    Association,
    associate,
    band_correlations,
    partial_band_correlations,
)
from makebreak.fragility.grid import BASELINES, COVARIATES, ModelGrid, model_grids, orientation
from makebreak.fragility.information import InformationTest
from makebreak.fragility.kendall import granulated_kendall
from makebreak.fragility.permutation import permutation_tests
from makebreak.fragility.prediction import predict
from makebreak.fragility.rows import AssociationRow, ModelPredictionRow
from makebreak.stats import holm_adjust
from makebreak.tables import as_dict


def association_table(zoo: pd.DataFrame, signs: Mapping[str, int], by_stage: bool = True) -> pd.DataFrame:
    """Association of every predictor with every outcome.

    Args:
        zoo: One row per model.
        signs: Predictors to test: 1 if a larger value is claimed to mean more robust safety, -1 if more
            fragile, 0 if no direction is claimed.
        by_stage: False to take all seeds as exploratory, as for a predictor that was defined later.

    Returns:
        Rows of `AssociationRow`.

    Raises:
        InvalidInput: If a predictor has no column, or its sign is not -1, 0 or 1.
    """
    for name, sign in signs.items():
        if sign not in (-1, 0, 1):
            raise InvalidInput(f"sign {sign} of predictor {name}: expected -1, 0 or 1")
    rows: list[dict[str, Any]] = []
    for grid in model_grids(zoo, by_stage):
        _require(grid, signs)
        rows += _with_holm([as_dict(row) for row in _association_rows(grid, signs)])
    return _as_table(rows, AssociationRow)


def prediction_table(zoo: pd.DataFrame) -> pd.DataFrame:
    """Predictions of every outcome for left-out mechanisms.

    Args:
        zoo: One row per model.

    Returns:
        Rows of `ModelPredictionRow`: the baselines, all predictors with two methods, and each alone.
    """
    rows = []
    for grid in model_grids(zoo):
        names = [name for name, values in grid.predictors.items() if not np.isnan(values).all()]
        sets: list[tuple[str, list[str], bool]] = [
            ("all, ridge", names, False),
            ("all, boosting", names, True),
        ]
        baselines = [name for name in BASELINES if name in names]
        sets = [("baselines", baselines, False)] * bool(baselines) + sets * bool(names)
        sets += [(name, [name], False) for name in names]
        for outcome in grid.outcomes:
            for label, chosen, boosting in sets:
                prediction = predict(grid, outcome, chosen, boosting)
                rows.append(as_dict(ModelPredictionRow(grid.world, grid.stage, outcome, label, *prediction)))
    return _as_table(rows, ModelPredictionRow)


def _require(grid: ModelGrid, signs: Mapping[str, int]) -> None:
    if missing := [name for name in signs if name not in grid.predictors]:
        raise InvalidInput(f"predictors {', '.join(missing)}: expected a column `predictor.NAME` for each")


def _association_rows(grid: ModelGrid, signs: Mapping[str, int]) -> list[AssociationRow]:
    information_test, rows = InformationTest(grid), []
    for predictor, sign in signs.items():
        x = grid.predictors[predictor]
        claims = {outcome: sign * orientation(outcome) for outcome in grid.outcomes}
        tests = permutation_tests(x, grid.outcomes, claims)
        information = information_test(predictor)
        for outcome, y in grid.outcomes.items():
            association = associate(band_correlations(x, y))
            kendall = granulated_kendall(x, y)
            partial = _partial_association(grid, predictor, outcome)
            rows.append(
                AssociationRow(
                    world=grid.world,
                    stage=grid.stage,
                    predictor=predictor,
                    outcome=outcome,
                    claim=claims[outcome],
                    n_models=int((~(np.isnan(x) | np.isnan(y))).sum()),
                    n_seeds=association.n_seeds,
                    rank_correlation=association.correlation,
                    low=association.low,
                    high=association.high,
                    bootstrap_low=association.bootstrap_low,
                    bootstrap_high=association.bootstrap_high,
                    kendall=kendall.mean,
                    kendall_mechanism=kendall.mechanism,
                    kendall_dose=kendall.dose,
                    information=information[outcome].excess,
                    information_p=information[outcome].p_value,
                    r2=predict(grid, outcome, [predictor]).r2,
                    p_value=tests[outcome].trajectories,
                    p_models=tests[outcome].models,
                    p_mechanisms=tests[outcome].mechanisms,
                    p_holm=None,
                    partial_correlation=partial.correlation,
                    partial_low=partial.low,
                    partial_high=partial.high,
                )
            )
    return rows


def _partial_association(grid: ModelGrid, predictor: str, outcome: str) -> Association:
    if predictor in COVARIATES or not all(name in grid.predictors for name in COVARIATES):
        return NO_ASSOCIATION
    margin, weight_change = (grid.predictors[name] for name in COVARIATES)
    x, y = grid.predictors[predictor], grid.outcomes[outcome]
    return associate(partial_band_correlations(x, y, (margin, weight_change)))


def _with_holm(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    tested = [row for row in rows if row["p_value"] is not None]
    for row, adjusted in zip(tested, holm_adjust([row["p_value"] for row in tested]), strict=True):
        row["p_holm"] = adjusted
    return rows


def _as_table(
    rows: list[dict[str, Any]], kind: type[AssociationRow] | type[ModelPredictionRow]
) -> pd.DataFrame:
    """The rows as a table whose undefined numbers are NaN."""
    table = pd.DataFrame(rows, columns=pd.Index(kind._fields))
    numbers = [name for name, annotation in kind.__annotations__.items() if "float" in str(annotation)]
    return table.astype(dict.fromkeys(numbers, float))
