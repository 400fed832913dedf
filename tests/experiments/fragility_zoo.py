"""A synthetic table of models of which the truth is known, for tests of the study's statistics."""

from __future__ import annotations

import numpy as np
import pandas as pd

MECHANISMS = 14
DOSES = 6
SHAPE = (5, MECHANISMS, DOSES)


def trajectories(
    random: np.random.Generator, shape: tuple[int, int, int] = SHAPE, share: float = 0.8
) -> np.ndarray:
    """Standard normal values; the doses of a mechanism and seed share a part of the variance."""
    common = random.standard_normal((*shape[:2], 1))
    return np.sqrt(share) * common + np.sqrt(1 - share) * random.standard_normal(shape)


def copy_of(y: np.ndarray, correlation: float, random: np.random.Generator) -> np.ndarray:
    """A normal variable with the given correlation to a standard normal one; its noise is `trajectories`."""
    return correlation * y + np.sqrt(1 - correlation**2) * trajectories(random, y.shape)


def table(columns: dict[str, np.ndarray], first_seed: int = 0, world: str = "mini") -> pd.DataFrame:
    """One row per seed, mechanism and dose with the given columns, all qualified."""
    shape = next(iter(columns.values())).shape
    seeds, mechanisms, doses = np.indices(shape).reshape(3, -1)
    rows = pd.DataFrame(
        {
            "world": world,
            "seed": seeds + first_seed,
            "mechanism": [f"mechanism_{m:02d}" for m in mechanisms],
            "dose": doses + 1,
            "is_control": False,
            "qualifies": True,
        }
    )
    return rows.assign(**{name: values.ravel() for name, values in columns.items()})
