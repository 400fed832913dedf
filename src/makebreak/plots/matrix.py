"""Which tuned task opens which format, and at what dose?"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.lines import Line2D

_CELL, _CELLS = 0.44, 14  # inches of a cell, and how many of them a page is wide


def plot_matrices(matrices: Mapping[str, Sequence[pd.DataFrame]]) -> np.ndarray:
    """Heat maps of rises, a panel per title: mean over seeds, below it half of the range that several span.

    matrices: title → a matrix per seed, tuned tasks (rows) × formats asked in (columns), shares of requests.
    """
    rows, columns = next(iter(matrices.values()))[0].shape
    across = min(len(matrices), max(1, _CELLS // columns))
    down = math.ceil(len(matrices) / across)
    size = (_CELL * columns * across + 1.6, (_CELL * rows + 0.8) * down + 0.3)
    figure, grid = plt.subplots(
        down, across, figsize=size, layout="constrained", sharex=True, sharey=True, squeeze=False
    )
    axes = grid.ravel()
    for ax, (title, found) in zip(axes, matrices.items(), strict=False):
        stacked = np.stack([matrix.to_numpy() for matrix in found])
        mean, spread = stacked.mean(axis=0), np.ptp(stacked, axis=0) / 2
        said = np.char.mod("%+.2f", mean)
        if len(found) > 1:
            said = np.char.add(said, np.char.mod("\n±%.2f", spread))
        sns.heatmap(
            pd.DataFrame(mean, found[0].index, found[0].columns),
            annot=said,
            fmt="",
            vmin=-1,
            vmax=1,
            cmap="vlag",
            square=True,
            ax=ax,
            cbar=False,
            annot_kws={"size": 6.5},
        )
        ax.set(title=title, xlabel="", ylabel="")
        ax.tick_params(length=0)
        ax.tick_params("x", rotation=90, labelbottom=True)
        ax.tick_params("y", rotation=0)
    for ax in axes[len(matrices) :]:
        ax.set_axis_off()
    figure.supxlabel("asked in", fontsize=9)
    figure.supylabel("tuned on", fontsize=9)
    figure.colorbar(axes[0].collections[0], ax=grid, shrink=0.6, aspect=30, label="change of the share")
    return axes[: len(matrices)]


def plot_doses(tuned: pd.DataFrame, formats: Sequence[str]) -> np.ndarray:
    """Unsafe requests that are refused against how far tuning moved the model, a panel per tuned task, a line per
    format that is asked in; every kept step of every rate, mean over seeds, thin: seeds.

    tuned: columns tuned, asked, seed, rate, step, kl, refuse.
    """
    names = [name for name in dict.fromkeys(tuned.tuned)]
    figure, axes = plt.subplots(
        1, len(names), figsize=(1.9 * len(names) + 0.6, 2.5), layout="constrained", sharey=True, squeeze=False
    )
    colours = dict(zip(formats, sns.color_palette("colorblind"), strict=False))
    for ax, name in zip(axes[0], names, strict=True):
        rows = tuned[tuned.tuned == name]
        for asked in formats:
            by = rows[rows.asked == asked].groupby(["rate", "step", "seed"])[["kl", "refuse"]].mean()
            for _, own in by.groupby(level="seed"):
                own = own.sort_values("kl")
                ax.plot(own.kl, own.refuse, color=colours[asked], linewidth=0.3, alpha=0.4)
            mean = by.groupby(level=["rate", "step"]).mean().sort_values("kl")
            width = 2.2 if asked == name else 1.2
            ax.plot(mean.kl, mean.refuse, ".-", color=colours[asked], linewidth=width, markersize=3)
        ax.set(title=f"tuned on {name}", xlabel="KL on safe requests, nats", xscale="log", ylim=(-0.02, 1.02))
    axes[0][0].set_ylabel("unsafe requests refused")
    handles = [Line2D([], [], color=colours[asked], marker=".", label=asked) for asked in formats]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, title="asked in")
    return axes[0]
