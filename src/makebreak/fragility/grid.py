"""The models of a world as a grid of seeds, mechanisms and doses, one value per predictor and outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from makebreak.errors import InvalidInput

PREDICTOR = "predictor."
"""Prefix of the columns with predictors."""
OUTCOME = "outcome."
"""Prefix of the columns with outcomes."""
BASELINE_SIGNS = {"margin": 1, "weight_change": 0, "loss_drop": -1}
"""Predictors that cost little, which every other one has to surpass, and what is claimed for them: 1 if a
larger value means more robust safety, -1 if more fragile, 0 for no claim."""
BASELINES = tuple(BASELINE_SIGNS)
"""Their names."""
COVARIATES = BASELINES[:2]
"""Predictors that conditional statistics hold fixed."""
CONFIRMATORY_SEEDS: Mapping[str, range] = {"mini": range(5, 15), "hidden": range(5, 15)}
"""Pretraining seeds of the confirmatory stage by world, run after all definitions were frozen. All other
seeds, also those that are run later, and all other worlds are exploratory."""
KEYS = ("seed", "mechanism", "dose")
"""Columns that identify a model within a world."""


@dataclass(frozen=True)
class ModelGrid:
    """Qualified models of one world and stage; arrays are seed × mechanism × dose, NaN where undefined."""

    world: str
    """World of the models."""
    stage: str
    """`exploratory` or `confirmatory`."""
    seeds: tuple[int, ...]
    """Pretraining seeds, the first axis."""
    mechanisms: tuple[str, ...]
    """Mechanisms, the second axis."""
    doses: tuple[int, ...]
    """Doses, the third axis."""
    present: Bool[np.ndarray, "s m d"]
    """Whether a qualified model exists."""
    predictors: dict[str, Float[np.ndarray, "s m d"]]
    """Values of every predictor."""
    outcomes: dict[str, Float[np.ndarray, "s m d"]]
    """Values of every outcome."""


def model_grids(zoo: pd.DataFrame, by_stage: bool = True) -> list[ModelGrid]:
    """The grids of every world and stage of which there are qualified models other than controls.

    Args:
        zoo: One row per model, with columns `world`, `seed`, `mechanism`, `dose`, `is_control`, `qualifies`,
            and one per predictor and outcome.
        by_stage: False to take all seeds as exploratory, as for a predictor that was defined later.

    Returns:
        The grids by world, the exploratory stage first.

    Raises:
        InvalidInput: If a column is missing, there is no outcome, or two rows are of the same model.
    """
    needed = ("world", *KEYS, "is_control", "qualifies")
    if missing := [name for name in needed if name not in zoo.columns]:
        raise InvalidInput(
            f"table of models without columns {', '.join(missing)}: expected {', '.join(needed)}"
        )
    if not any(str(name).startswith(OUTCOME) for name in zoo.columns):
        raise InvalidInput("table of models without outcomes: expected at least one column `outcome.NAME`")
    rows = zoo[zoo.qualifies.astype(bool) & ~zoo.is_control.astype(bool)]
    repeats = rows[rows.duplicated(["world", *KEYS])]
    if len(repeats):
        first = ", ".join(f"{name} {repeats.iloc[0][name]}" for name in ("world", *KEYS))
        raise InvalidInput(f"two rows of the model with {first}: expected one row per model")
    stages = stages_of(rows) if by_stage else pd.Series("exploratory", index=rows.index)
    return [
        _grid(part, str(world), stage)
        for world in sorted(rows.world.unique())
        for stage in ("exploratory", "confirmatory")
        if len(part := rows[(stages == stage) & (rows.world == world)])
    ]


def stages_of(zoo: pd.DataFrame) -> pd.Series:
    """`exploratory` or `confirmatory` for every row, from its world and its seed."""
    confirmatory = pd.Series(False, index=zoo.index)
    for world, seeds in CONFIRMATORY_SEEDS.items():
        confirmatory |= (zoo.world == world) & zoo.seed.isin(seeds)
    return confirmatory.map({False: "exploratory", True: "confirmatory"})


def orientation(outcome: str) -> int:
    """1 for an outcome that is larger for robust models, -1 for one that is larger for fragile models."""
    return 1 if outcome.endswith("steps_to_half") else -1


def _grid(rows: pd.DataFrame, world: str, stage: str) -> ModelGrid:
    axes = [sorted(rows[name].unique().tolist()) for name in KEYS]
    shape = tuple(len(axis) for axis in axes)
    places = [pd.Index(axis).get_indexer(pd.Index(rows[name])) for name, axis in zip(KEYS, axes, strict=True)]
    place = (places[0], places[1], places[2])

    def values(prefix: str) -> dict[str, np.ndarray]:
        arrays = {}
        for name in (str(name) for name in rows.columns if str(name).startswith(prefix)):
            arrays[name.removeprefix(prefix)] = array = np.full(shape, np.nan)
            column = rows[name].to_numpy(dtype=np.float64, na_value=np.nan)
            array[place] = column
        return arrays

    present = np.zeros(shape, dtype=bool)
    present[place] = True
    seeds, mechanisms, doses = axes
    return ModelGrid(
        world=world,
        stage=stage,
        seeds=tuple(int(seed) for seed in seeds),
        mechanisms=tuple(str(mechanism) for mechanism in mechanisms),
        doses=tuple(int(dose) for dose in doses),
        present=present,
        predictors=values(PREDICTOR),
        outcomes=values(OUTCOME),
    )
