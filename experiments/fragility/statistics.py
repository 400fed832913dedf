"""Statistics over all models of a run: associations, predictions, and differences from controls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from experiments.fragility.claims import OUTCOME
from experiments.fragility.predictors import SIGNS
from experiments.fragility.zoo import KEYS, zoo_table
from makebreak.fragility import association_table, control_table, prediction_table
from makebreak.revisions import cache_revision
from makebreak.studies import Inputs


@dataclass(frozen=True)
class StatisticsSettings:
    """Trainings whose models are analysed together."""

    world: str
    """World of the models."""
    trainings: tuple[str, ...]
    """Seed and mechanism of each needed cell, such as `0 ssft`, in the order of the cells."""


@cache_revision(3)
def statistics_tables(inputs: Inputs) -> Mapping[str, Iterable[Mapping[str, Any]]]:
    """Tables `associations` and `predictions`, empty without an attacked model, and `controls`."""
    zoo = zoo_table(_join(inputs))
    column, controls = f"outcome.{OUTCOME}", _rows(control_table(zoo))
    if column not in zoo or not zoo[zoo.qualifies][column].notna().any():
        return {"associations": [], "predictions": [], "controls": controls}
    signs = {name: sign for name, sign in SIGNS.items() if f"predictor.{name}" in zoo}
    return {
        "associations": _rows(association_table(zoo, signs)),
        "predictions": _rows(prediction_table(zoo)),
        "controls": controls,
    }


def _join(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Tables of all needed cells, with the columns that identify a training."""
    settings: StatisticsSettings = inputs.settings
    rows: dict[str, list[dict[str, Any]]] = {}
    for training, tables in zip(settings.trainings, inputs.tables, strict=True):
        seed, _, mechanism = training.partition(" ")
        identity = dict(zip(KEYS, (settings.world, int(seed), mechanism), strict=False))
        for name, table in tables.items():
            rows.setdefault(name, []).extend({**identity, **row} for row in table)
    return {name: pd.DataFrame(table) for name, table in rows.items() if table}


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows with None for undefined values, as JSON has them."""
    return table.astype(object).where(table.notna(), None).to_dict("records")  # type: ignore[return-value]
