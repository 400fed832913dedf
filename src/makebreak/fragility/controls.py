"""Difference of every predictor between models made safe and controls that were trained as long.

A control is trained with the data, the steps and the learning rate of a mechanism, but for another aim than
safety. A predictor that has the same value on both describes the training and not the safety of the model.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from makebreak.fragility.grid import PREDICTOR, stages_of
from makebreak.stats import mean_confidence_interval


class ControlRow(NamedTuple):
    """Difference of one predictor between the models of a mechanism and those of a control."""

    world: str
    """World of the models."""
    stage: str
    """`exploratory` or `confirmatory` (seeds 5 to 14 of `mini` and `hidden`)."""
    predictor: str
    """Name of the predictor."""
    control: str
    """Name of the control."""
    n_pairs: int
    """Pairs of a model and a control of the same pretraining seed and dose, both qualified."""
    n_seeds: int
    """Pretraining seeds with at least one pair."""
    difference: float
    """Value on the model minus value on the control, in standard deviations of the predictor over the
    qualified models of the seed; mean over doses and then over seeds."""
    low: float | None
    """Lower end of its 95 % Student interval over seeds; None for one seed."""
    high: float | None
    """Upper end of that interval."""


def control_table(zoo: pd.DataFrame, mechanism: str = "ssft") -> pd.DataFrame:
    """Compares every predictor on the models of a mechanism with its values on controls.

    Args:
        zoo: One row per model, as `read_zoo` gives.
        mechanism: Name of the mechanism whose training the controls share.

    Returns:
        Rows of `ControlRow`; none for a predictor that is undefined on all pairs of models, or has the same
        value on all models of each seed.
    """
    rows = zoo[zoo.qualifies.astype(bool)]
    rows = rows.assign(stage=stages_of(rows))
    names = [str(name) for name in rows.columns if str(name).startswith(PREDICTOR)]
    keys = ["world", "stage", "seed", "dose", "mechanism", "is_control"]
    values = rows.melt(keys, names, "predictor").dropna(subset="value")
    values["value"] = values.value.astype(float)
    is_control = values.is_control.astype(bool)
    of_seed = ["world", "stage", "predictor", "seed"]
    spread = values[~is_control].groupby(of_seed).value.std().rename("spread").reset_index()
    models = values[~is_control & (values.mechanism == mechanism)]
    pairs = models.merge(values[is_control], on=[*of_seed, "dose"], suffixes=("", "_control"))
    pairs = pairs.merge(spread[spread.spread > 0], on=of_seed)
    pairs["difference"] = (pairs.value - pairs.value_control) / pairs.spread
    by = ["world", "stage", "predictor", "mechanism_control"]
    seeds = pairs.groupby([*by, "seed"], sort=False).difference.agg(["mean", "size"])
    result = []
    for key, part in seeds.groupby(level=by, sort=False):
        world, stage, predictor, control = map(str, key)
        estimate = mean_confidence_interval(part["mean"].tolist())
        name, n_pairs = predictor.removeprefix(PREDICTOR), int(part["size"].sum())
        result.append(ControlRow(world, stage, name, control, n_pairs, estimate.n, *estimate[:3]))
    return pd.DataFrame(result, columns=pd.Index(ControlRow._fields))
