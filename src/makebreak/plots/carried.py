"""How do several models that were made safe compare, seed by seed?"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from makebreak.plots.style import arm_name


def plot_shares(table: pd.DataFrame, *, by: str, hue: str, value: str, label: str) -> Axes:
    """Shares, a row per category and a colour per kind: small dots are seeds, large ones their mean.

    table: columns `by`, what the rows are; `hue`, kinds; `value`, from 0 to 1, None where it was not run.
    """
    rows, kinds = list(dict.fromkeys(table[by])), list(dict.fromkeys(table[hue]))
    _, ax = plt.subplots(figsize=(5.8, 0.9 + 0.32 * len(rows)), layout="constrained")
    for i, (kind, colour) in enumerate(zip(kinds, sns.color_palette("colorblind", len(kinds)), strict=True)):
        own = table[(table[hue] == kind) & table[value].notna()]
        y = own[by].map(rows.index) + (i - (len(kinds) - 1) / 2) * 0.7 / len(kinds)
        ax.plot(own[value], y, "o", color=colour, alpha=0.35, markersize=2.5)
        mean = own.assign(y=y).groupby("y")[value].mean()
        ax.plot(mean, mean.index, "o", color=colour, markersize=5, label=arm_name(kind))
    ax.set_yticks(range(len(rows)), [arm_name(row) for row in rows])
    ax.hlines(np.arange(len(rows) - 1) + 0.5, 0, 1, color="0.92", linewidth=0.6, zorder=0)
    ax.set(xlabel=label, xlim=(-0.02, 1.02), ylim=(len(rows) - 0.5, -0.5))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7)
    return ax


def plot_gaps(clusters: pd.DataFrame, base: str) -> Axes:
    """Normalised gap of τ by layer, a colour per model, the base dashed; thin: seeds.

    clusters: columns arm, seed, layer, normalised, shuffled_normalised.
    """
    arms = [arm for arm in dict.fromkeys(clusters.arm) if arm != base]
    _, ax = plt.subplots(figsize=(5.0, 2.6), layout="constrained")
    colours = dict(zip(arms, sns.color_palette("colorblind", len(arms)), strict=True)) | {base: "black"}
    for arm in (*arms, base):
        own = clusters[clusters.arm == arm]
        for _, rows in own.groupby("seed"):
            rows = rows.sort_values("layer")
            ax.plot(rows.layer + 1, rows.normalised, color=colours[arm], linewidth=0.4, alpha=0.5)
        mean = own.groupby("layer").normalised.mean()
        ax.plot(mean.index + 1, mean, "--" if arm == base else "-", color=colours[arm], label=arm_name(arm))
    chance = clusters.groupby("layer").shuffled_normalised.mean()
    ax.plot(chance.index + 1, chance, ":", color="0.5", linewidth=1, label="shuffled labels")
    ax.set(xlabel="layer", ylabel="normalised gap of τ")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7)
    return ax
