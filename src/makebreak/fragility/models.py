"""The shipped table of models, and the trainings from which its models can be made again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from makebreak.configs import from_json
from makebreak.errors import InvalidInput
from makebreak.fragility.association import MIN_PARTIAL_MODELS
from makebreak.fragility.grid import KEYS
from makebreak.optional_packages import check_optional
from makebreak.recipes import Recipe

RECIPE = "recipe"
"""Column with the training of each model as JSON; a model is a kept step of it."""
_PLACES = (Path(__file__).with_name("zoo.parquet"), Path(__file__).parents[3] / "data" / "zoo.parquet")
"""Where the table lies in an installed package, and in the repository."""


class Training(NamedTuple):
    """One training and its steps that are models of the table."""

    recipe: Recipe
    """The training."""
    steps: tuple[int, ...]
    """Numbers of steps."""
    rows: tuple[int, ...]
    """Labels of the rows of these models in the table, in the same order."""


def read_zoo(path: Path | None = None) -> pd.DataFrame:
    """The table of models with their predictors and outcomes.

    Args:
        path: A .parquet file; None for the table that ships with makebreak.

    Returns:
        One row per model: `world`, `seed`, `mechanism`, `dose`, `step`, `is_control`, `qualifies`, rates
        before any attack, `predictor.NAME`, `outcome.NAME`, and `recipe`.

    Raises:
        InvalidInput: If there is no such file, or it is not a table of models.
        MissingPackage: If pyarrow is not installed.
    """
    check_optional("pyarrow", "reading the table of models")
    file = path or next((place for place in _PLACES if place.is_file()), _PLACES[0])
    try:
        table = pd.read_parquet(file)
    except FileNotFoundError:
        raise InvalidInput(
            f"{file} does not exist: expected the table of models of the study fragility, which "
            "python -m experiments.fragility.export writes"
        ) from None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file} is no .parquet file that can be read ({error})") from None
    missing = [
        name for name in ("world", *KEYS, "step", "qualifies", "is_control", RECIPE) if name not in table
    ]
    if missing:
        raise InvalidInput(f"{file} lacks the columns {', '.join(missing)}: expected a table of models")
    return table


def choose_models(zoo: pd.DataFrame, world: str, n: int) -> pd.DataFrame:
    """A part of the qualified models of a world: whole trainings, of as few seeds as give the number.

    At least two seeds are chosen, so that there are intervals, and at least seven mechanisms of each, which a
    partial rank correlation within a dose needs.

    Args:
        zoo: One row per model.
        world: Name of the world.
        n: Number of models, at least.

    Returns:
        Rows of the table.

    Raises:
        InvalidInput: If the world has no qualified model, or fewer than are needed.
    """
    rows = zoo[(zoo.world == world) & zoo.qualifies.astype(bool) & ~zoo.is_control.astype(bool)]
    if rows.empty:
        worlds = ", ".join(sorted(zoo.world.unique()))
        raise InvalidInput(f"world {world!r} has no models in the table: expected one of {worlds}")
    counts = rows.groupby(["seed", "mechanism"]).size().unstack(fill_value=0)
    seeds: list[Any] = counts.index.tolist()
    if len(rows) < n or len(seeds) < 2:
        raise InvalidInput(f"{n} models of at least two seeds: world {world} has {len(rows)} of {len(seeds)}")
    names = counts.min().sort_values(ascending=False, kind="stable").index.tolist()
    for n_seeds in range(2, len(seeds) + 1):
        for n_mechanisms in range(min(MIN_PARTIAL_MODELS, len(names)), len(names) + 1):
            chosen = rows[rows.seed.isin(seeds[:n_seeds]) & rows.mechanism.isin(names[:n_mechanisms])]
            if len(chosen) >= n:
                return chosen
    return rows


def trainings(rows: pd.DataFrame) -> Sequence[Training]:
    """The trainings of the models of a table, each once."""
    result = []
    for text, models in rows.groupby(RECIPE, sort=False):
        recipe = from_json(Recipe, json.loads(str(text)))
        result.append(Training(recipe, tuple(map(int, models.step)), tuple(models.index.tolist())))
    return result
