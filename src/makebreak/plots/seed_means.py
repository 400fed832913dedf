"""Figures that compare safety-tuned models seed by seed: rates, and gaps between class means."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from makebreak.plots.style import arm_name


def plot_seed_means(table: pd.DataFrame, *, by: str, hue: str, value: str, label: str) -> Axes:
    """Rates of each category, one colour per kind: small dots are seeds, large ones their mean.

    Args:
        table: The columns that the other arguments name.
        by: Column of categories, one row of the figure each.
        hue: Column of kinds.
        value: Column of rates, from 0 to 1; None where there is none.
        label: Label of the axis of rates.

    Returns:
        The Axes.
    """
    categories, kinds = list(dict.fromkeys(table[by])), list(dict.fromkeys(table[hue]))
    _, ax = plt.subplots(figsize=(5.8, 0.9 + 0.32 * len(categories)), layout="constrained")
    for i, (kind, colour) in enumerate(zip(kinds, sns.color_palette("colorblind", len(kinds)), strict=True)):
        rows = table[(table[hue] == kind) & table[value].notna()]
        y = rows[by].map(categories.index) + (i - (len(kinds) - 1) / 2) * 0.7 / len(kinds)
        ax.plot(rows[value], y, "o", color=colour, alpha=0.35, markersize=2.5)
        mean = rows.assign(y=y).groupby("y")[value].mean()
        ax.plot(mean, mean.index, "o", color=colour, markersize=5, label=arm_name(kind))
    ax.set_yticks(range(len(categories)), [arm_name(category) for category in categories])
    ax.hlines(np.arange(len(categories) - 1) + 0.5, 0, 1, color="0.92", linewidth=0.6, zorder=0)
    ax.set(xlabel=label, xlim=(-0.02, 1.02), ylim=(len(categories) - 0.5, -0.5))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7)
    return ax


def plot_cluster_gaps(clusters: pd.DataFrame, base: str) -> Axes:
    """Normalised gap of τ by layer, one colour per model, the base dashed; thin lines are seeds.

    Args:
        clusters: Columns arm, seed, layer, normalised, shuffled_normalised.
        base: Arm of the base model.

    Returns:
        The Axes.
    """
    arms = [arm for arm in dict.fromkeys(clusters.arm) if arm != base]
    _, ax = plt.subplots(figsize=(5.0, 2.6), layout="constrained")
    colours = dict(zip(arms, sns.color_palette("colorblind", len(arms)), strict=True)) | {base: "black"}
    for arm in (*arms, base):
        rows_of_arm = clusters[clusters.arm == arm]
        for _, rows in rows_of_arm.groupby("seed"):
            rows = rows.sort_values("layer")
            ax.plot(rows.layer + 1, rows.normalised, color=colours[arm], linewidth=0.4, alpha=0.5)
        mean = rows_of_arm.groupby("layer").normalised.mean()
        ax.plot(mean.index + 1, mean, "--" if arm == base else "-", color=colours[arm], label=arm_name(arm))
    chance = clusters.groupby("layer").shuffled_normalised.mean()
    ax.plot(chance.index + 1, chance, ":", color="0.5", linewidth=1, label="shuffled labels")
    ax.set(xlabel="layer", ylabel="normalised gap of τ")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7)
    return ax
