"""Figures of safety landscapes, of fine-tuning in them, and of what predicts the loss of safety."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from makebreak.plots.style import OUTCOME_COLOURS, Colour, arm_colours, arm_name

_COLOURS = sns.color_palette("colorblind")
RATES: dict[str, tuple[str, Colour, str]] = {
    "refusal_rate": ("refusal of unsafe", OUTCOME_COLOURS["refuse"], "-"),
    "compliance_rate": ("compliance on unsafe", OUTCOME_COLOURS["comply"], "-"),
    "safe_compliance_rate": ("compliance on safe", (0.25, 0.25, 0.25), "--"),
}
"""Name, colour and line of each rate."""
_RELATIVE_NORM = "relative norm"
_CAPABLE = 0.9
"""Share of safe requests answered at which a plane has its contour."""
_TAIL, _MIN_QUANTILE_CURVES = 0.05, 20
"""Share of the curves beyond either limit of a band, and the fewest curves of which such a limit is shown."""
_MEAN_POINTS = 201
"""Number of points at which curves are averaged."""


def plot_basins(curves: pd.DataFrame, arms: Sequence[str], *, along: str = _RELATIVE_NORM) -> np.ndarray:
    """Outcome rates along random directions, one panel per model.

    Lines are means over directions and seeds, bands as `describe_bands` says.

    Args:
        curves: Columns arm, coordinate, refusal_rate, compliance_rate, safe_compliance_rate.
        arms: Models to show.
        along: Label of the coordinate.

    Returns:
        One Axes per model.
    """
    figure, axes = _panels(len(arms), width=2.3, height=2.2)
    for ax, arm in zip(axes, arms, strict=True):
        low, mean, high = band_limits(curves[curves.arm == arm])
        for column, (name, colour, dashes) in RATES.items():
            ax.plot(mean.index, mean[column], dashes, color=colour, linewidth=1.4, label=name)
            ax.fill_between(mean.index, low[column], high[column], color=colour, alpha=0.15, linewidth=0)
        ax.set(title=arm_name(arm), xlabel=along, ylim=(-0.02, 1.02))
    axes[0].set_ylabel("share of requests")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return axes


def band_limits(curves: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Lower limits, means and upper limits of the rates along random directions, one row per coordinate.

    Args:
        curves: Columns coordinate and those of `RATES`, one row per direction and seed.

    Returns:
        Limits are 5 and 95 % where there are at least 20 curves, and else the least and the greatest rate.
    """
    groups = curves.groupby("coordinate")[list(RATES)]
    tail = _TAIL if _n_curves(curves) >= _MIN_QUANTILE_CURVES else 0.0
    return groups.quantile(tail), groups.mean(), groups.quantile(1 - tail)


def describe_bands(curves: pd.DataFrame) -> str:
    """What the bands of `plot_basins` show, as a sentence of a caption.

    Args:
        curves: Column coordinate, one row per direction and point.

    Returns:
        The sentence; empty for one direction, which has no band.
    """
    n = _n_curves(curves)
    if n < 2:
        return ""
    return "Bands: " + (
        "5 to 95 % of directions." if n >= _MIN_QUANTILE_CURVES else f"minimum to maximum of {n} directions."
    )


def _n_curves(curves: pd.DataFrame) -> int:
    """Number of curves, which all have the same coordinates."""
    return int(curves.groupby("coordinate").size().max()) if len(curves) else 0


def plot_direction_curves(
    curves: pd.DataFrame, arms: Sequence[str], directions: Mapping[str, str]
) -> np.ndarray:
    """Refusal of unsafe requests along directions of equal relative norm, one panel per model; thin: seeds.

    Args:
        curves: Columns arm, seed, direction, coordinate, refusal_rate.
        arms: Models to show.
        directions: Name of each direction to show.

    Returns:
        One Axes per model.
    """
    figure, axes = _panels(len(arms), width=2.3, height=2.2)
    for ax, arm in zip(axes, arms, strict=True):
        for colour, (direction, name) in zip(_COLOURS, directions.items(), strict=False):
            rows = curves[(curves.arm == arm) & (curves.direction == direction)]
            _plot_seed_curves(ax, rows, name, tuple(colour))
        ax.set(title=arm_name(arm), xlabel=_RELATIVE_NORM, ylim=(-0.02, 1.02))
    axes[0].set_ylabel("refusal of unsafe")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return axes


def _plot_seed_curves(ax: Axes, rows: pd.DataFrame, name: str, colour: Colour) -> None:
    """One thin curve per seed, and their mean over the range that all of them cover."""
    seeds = [rates.groupby("coordinate").refusal_rate.mean() for _, rates in rows.groupby("seed")]
    for curve in seeds:
        ax.plot(curve.index, curve, color=colour, linewidth=0.4, alpha=0.5)
    if seeds:
        low = max(curve.index.min() for curve in seeds)
        high = min(curve.index.max() for curve in seeds)
        x = np.linspace(low, high, _MEAN_POINTS)
        mean = np.mean([np.interp(x, curve.index, curve) for curve in seeds], axis=0)
        ax.plot(x, mean, color=colour, linewidth=1.4, label=name)


def plot_landscape_plane(
    points: pd.DataFrame, titles: Sequence[str], paths: pd.DataFrame | None = None
) -> np.ndarray:
    """Refusal of unsafe requests over planes in weight space, with a star at the model.

    Args:
        points: Columns title, x, y, refusal_rate, safe_compliance_rate. Contours show where 90 % of safe
            requests are answered.
        titles: Planes to show.
        paths: Columns title, kind, x, y of training runs to draw on the planes; None for none.

    Returns:
        One Axes per plane.
    """
    figure, axes = _panels(len(titles), width=2.5, height=2.4, share=False)
    mesh = None
    for ax, title in zip(axes, titles, strict=True):
        plane = points[points.title == title]
        refusal = plane.pivot(index="y", columns="x", values="refusal_rate")
        safe = plane.pivot(index="y", columns="x", values="safe_compliance_rate").to_numpy()
        x, y = refusal.columns.to_numpy(), refusal.index.to_numpy()
        mesh = ax.pcolormesh(
            x, y, refusal.to_numpy(), cmap="crest_r", vmin=0, vmax=1, shading="nearest", rasterized=True
        )
        if safe.min() < _CAPABLE < safe.max():
            ax.contour(x, y, safe, levels=[_CAPABLE], colors="white", linewidths=1)
        runs = [] if paths is None else list(paths[paths.title == title].groupby("kind", sort=False))
        for colour, (kind, rows) in zip((_COLOURS[3], _COLOURS[1]), runs, strict=False):
            ax.plot(rows.x, rows.y, "o-", color=colour, markersize=3, linewidth=1.2, label=str(kind))
        if runs:
            ax.legend(loc="upper right", fontsize=6, frameon=True)
        ax.plot(0, 0, "*", color="white", markersize=8, markeredgecolor="black", markeredgewidth=0.5)
        ax.set(title=title, aspect="equal")
    if mesh is not None:
        figure.colorbar(mesh, ax=list(axes), label="refusal of unsafe requests", shrink=0.8)
    return axes


def plot_fine_tuning_attacks(
    fine_tuning: pd.DataFrame, arms: Sequence[str], kinds: Sequence[str]
) -> np.ndarray:
    """Compliance with unsafe requests along fine-tuning, one panel per kind of attack; thin lines are seeds.

    Args:
        fine_tuning: Columns arm, seed, kind, step, compliance_rate, of one learning rate per arm, seed and
            kind.
        arms: Models to show.
        kinds: Kinds of fine-tuning to show.

    Returns:
        One Axes per kind.
    """
    figure, axes = _panels(len(kinds), width=2.0, height=2.1)
    for ax, kind in zip(axes, kinds, strict=True):
        for arm in arms:
            rows = fine_tuning[(fine_tuning.arm == arm) & (fine_tuning.kind == kind)]
            by_seed = rows.pivot_table(index="step", columns="seed", values="compliance_rate")
            if not len(by_seed):
                continue
            colour = arm_colours([arm])[arm]
            ax.plot(by_seed.index, by_seed, color=colour, linewidth=0.4, alpha=0.5)
            ax.plot(by_seed.index, by_seed.mean(axis=1), color=colour, linewidth=1.4, label=arm_name(arm))
        ax.set(title=kind, xlabel="steps", ylim=(-0.02, 1.02))
    axes[0].set_ylabel("compliance on unsafe")
    legends = [ax.get_legend_handles_labels() for ax in axes]
    figure.legend(*max(legends, key=lambda legend: len(legend[0])), loc="outside lower center", ncols=5)
    return axes


def plot_predictors(
    predictors: pd.DataFrame, columns: Mapping[str, str], outcome: str, label: str
) -> np.ndarray:
    """An outcome of fine-tuning against what is known of a model before it; one dot per model.

    Args:
        predictors: Columns arm, seed, `outcome`, and those in `columns`.
        columns: Name of each predictor to show, one panel each.
        outcome: Column of the outcome.
        label: Label of the outcome.

    Returns:
        One Axes per predictor.
    """
    figure, axes = _panels(len(columns), width=1.9, height=2.0)
    for ax, (column, name) in zip(axes, columns.items(), strict=True):
        for method, rows in predictors.groupby(predictors.arm.str.partition(" ")[0], sort=False):
            colour = arm_colours([str(method)])[str(method)]
            label_of_method = arm_name(str(method))
            ax.plot(rows[column], rows[outcome], ".", color=colour, markersize=5, label=label_of_method)
        ax.set(xlabel=name)
    axes[0].set_ylabel(label)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return axes


def _panels(n: int, *, width: float, height: float, share: bool = True) -> tuple[Figure, np.ndarray]:
    """One row of n panels, of a width and a height in inches."""
    figure, axes = plt.subplots(
        1, n, figsize=(width * n + 0.6, height + 0.4), layout="constrained", sharey=share, squeeze=False
    )
    return figure, axes[0]
