"""Values of claims by alignment seed, from the tables of the aligned models of each seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from experiments.real.presets import BASE
from makebreak.claims import NotRun, Tables, Value, rows_of


@dataclass(frozen=True)
class AlignedModel:
    """Tables of one aligned model."""

    tables: Tables
    """Tables of the study."""
    arm: str
    """Name of the alignment."""
    seed: int
    """Alignment seed."""

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Rows of a table that belong to this model; none where something could not be measured in it."""
        rows = rows_of(self.tables, name)
        return rows[(rows.seed == self.seed) & (rows.arm == self.arm)]

    def of_base(self, name: str) -> pd.DataFrame:
        """Rows of a table that belong to the model before alignment."""
        return rows_of(self.tables, name, arm=BASE)


ModelValue = Callable[[AlignedModel], "float | None"]
"""Value of one aligned model; None where it is undefined."""


def mean_value(value: ModelValue, models: Iterable[AlignedModel]) -> float | None:
    """Mean over the models in which a value is defined; None if there is none."""
    defined = [x for x in (value(model) for model in models) if x is not None]
    return float(np.mean(defined)) if defined else None


def difference(a: float | None, b: float | None) -> float | None:
    """Difference of two values; None if one is undefined."""
    return None if a is None or b is None else float(a - b)


def of_models(function: Callable[[Sequence[AlignedModel]], float | None]) -> Value:
    """Value of a claim from a function of all aligned models of one alignment seed."""

    def value(tables: Tables) -> pd.Series:
        behaviour = rows_of(tables, "behaviour")
        aligned = behaviour[behaviour.arm != BASE]
        values = {}
        for seed, rows in aligned.groupby("seed"):
            arms = dict.fromkeys(rows.arm)
            values[seed] = function([AlignedModel(tables, arm, int(str(seed))) for arm in arms])
        return pd.Series(values, dtype=float)

    return value


def mean_of_models(value: ModelValue) -> Value:
    """Value of a claim from a function of one model: the mean over alignments in which it is defined."""
    return of_models(partial(mean_value, value))


def of_arm(arm: str, value: ModelValue) -> Value:
    """Value of a claim about one alignment."""
    return of_models(lambda models: value(find_arm(models, arm)))


def find_arm(models: Sequence[AlignedModel], arm: str) -> AlignedModel:
    """The model of an alignment.

    Args:
        models: Aligned models of one seed.
        arm: Name of the alignment.

    Returns:
        The model.

    Raises:
        NotRun: If there is none.
    """
    for model in models:
        if model.arm == arm:
            return model
    raise NotRun(f"this preset has no alignment {arm!r}")
