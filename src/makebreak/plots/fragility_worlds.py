"""Figure of whether the associations of predictors agree in two worlds."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from makebreak.claims import NotRun
from makebreak.fragility.grid import BASELINES, orientation
from makebreak.plots.fragility_names import outcome_name, predictor_name

_BASELINE, _OTHER = (sns.color_palette("colorblind")[i] for i in (1, 0))
_MIN_PREDICTORS = 3
_LABELLED = 0.3
"""Absolute correlation in either world from which a predictor is named."""


def world_agreement(associations: pd.DataFrame, outcome: str, worlds: tuple[str, str]) -> pd.DataFrame:
    """Correlation of every predictor with robust safety in two worlds.

    Args:
        associations: Rows of one stage of each world.
        outcome: Name of the outcome.
        worlds: Names of the worlds.

    Returns:
        One row per predictor that is defined in both, indexed by its name: columns `x` and `y`, the rank
        correlations with robust safety in the first and in the second world, and `x_low`, `x_high`, `y_low`
        and `y_high`, their intervals, NaN where there is one seed.
    """
    turn, parts = orientation(outcome), []
    for axis, world in zip("xy", worlds, strict=True):
        rows = associations[(associations.world == world) & (associations.outcome == outcome)]
        values = turn * rows.set_index("predictor")[["rank_correlation", "low", "high"]].astype(float)
        ends = values[["low", "high"]]
        part = {
            axis: values.rank_correlation,
            f"{axis}_low": ends.min(axis=1),
            f"{axis}_high": ends.max(axis=1),
        }
        parts.append(pd.DataFrame(part))
    return parts[0].join(parts[1], how="inner").dropna(subset=["x", "y"])


def cosine_similarity(rows: pd.DataFrame) -> float | None:
    """Cosine similarity of the correlations in two worlds, as vectors over predictors.

    Unlike a rank correlation it does not depend on the sign by which a predictor is defined: 0 is expected
    where the two worlds have nothing in common, 1 where the correlations are equal up to a factor. Predictors
    are not independent of one another, so that it has no p-value.

    Args:
        rows: Rows of `world_agreement`.

    Returns:
        The similarity; None for fewer than three predictors, or where all correlations of a world are 0.
    """
    x, y = rows[["x", "y"]].to_numpy(dtype=float).T
    norm = np.linalg.norm(x) * np.linalg.norm(y)
    return float(x @ y / norm) if len(rows) >= _MIN_PREDICTORS and norm else None


def plot_world_agreement(associations: pd.DataFrame, outcome: str, worlds: tuple[str, str]) -> Axes:
    """Correlation of every predictor with robust safety in one world against that in another.

    Lines are 95 % intervals over seeds; the diagonal is equal correlations. The title has their cosine
    similarity.

    Args:
        associations: Rows of one stage of each world.
        outcome: Name of the outcome.
        worlds: Names of the worlds, of the horizontal and of the vertical axis.

    Returns:
        The Axes.

    Raises:
        NotRun: If fewer than three predictors are defined in both, or all correlations of a world are 0.
    """
    rows = world_agreement(associations, outcome, worlds)
    similarity = cosine_similarity(rows)
    if similarity is None:
        raise NotRun(f"associations with {outcome} in both {worlds[0]} and {worlds[1]}")
    _, ax = plt.subplots(figsize=(6.2, 4.4), layout="constrained")
    for name, row in rows.iterrows():
        colour = _BASELINE if name in BASELINES else _OTHER
        ax.hlines(row.y, row.x_low, row.x_high, color=colour, linewidth=0.6, alpha=0.5)
        ax.vlines(row.x, row.y_low, row.y_high, color=colour, linewidth=0.6, alpha=0.5)
        ax.plot(row.x, row.y, "o", color=colour, markersize=4)
    # correlations end at 1; Student's intervals of few seeds are wider than the axes
    limit = min(1.0, 1.25 * float(rows[["x", "y"]].abs().to_numpy().max()))
    _name_points(ax, rows[rows[["x", "y"]].abs().max(axis=1) >= _LABELLED], limit)
    ends = (-limit, limit)
    ax.plot(ends, ends, color="0.6", linewidth=0.8, zorder=0)
    ax.axhline(0, color="black", linewidth=0.5)
    ax.axvline(0, color="black", linewidth=0.5)
    ax.set(xlim=ends, ylim=ends)
    names = [f"{world} ({', '.join(dict.fromkeys(associations[associations.world == world].stage))})"
             for world in worlds]  # fmt: skip
    ax.set_xlabel(f"rank correlation with robust safety in {names[0]}", fontsize=8.5)
    ax.set_ylabel(f"rank correlation with robust safety in {names[1]}", fontsize=8.5)
    number = f"{similarity:.2f}".replace("-", "−")
    title = f"{outcome_name(outcome)}: cosine similarity {number}, {len(rows)} predictors"
    ax.set_title(title, fontsize=9)
    return ax


def _name_points(ax: Axes, rows: pd.DataFrame, limit: float) -> None:
    """Names points in a column at the right, in the order of their heights, with a line to each."""
    ordered = rows.sort_values("y")
    heights = np.linspace(-limit, limit, len(ordered) + 2)[1:-1]
    for (name, row), height in zip(ordered.iterrows(), heights, strict=True):
        ax.annotate(
            predictor_name(str(name)),
            (row.x, row.y),
            (1.06 * limit, height),
            fontsize=7,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.5, "relpos": (0, 0.5)},
        )
