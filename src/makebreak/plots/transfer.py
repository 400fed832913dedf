"""Figures of transfer between formats: fine-tuning on one task against refusal in every format."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.lines import Line2D

_CELL_SIZE = 0.44
"""Inches of a cell."""
_CELLS_ACROSS = 14
"""Number of cells that fit across a page."""


def plot_transfer_matrices(matrices: Mapping[str, Sequence[pd.DataFrame]]) -> np.ndarray:
    """Heat maps of changes: mean over seeds, below it half of the range of several seeds.

    Args:
        matrices: By the title of a panel, one matrix per seed: tasks that are fine-tuned on (rows) × formats
            that are evaluated (columns), changes of shares of requests.

    Returns:
        One Axes per title.
    """
    n_rows, n_columns = next(iter(matrices.values()))[0].shape
    across = min(len(matrices), max(1, _CELLS_ACROSS // n_columns))
    down = math.ceil(len(matrices) / across)
    size = (_CELL_SIZE * n_columns * across + 1.6, (_CELL_SIZE * n_rows + 0.8) * down + 0.3)
    figure, grid = plt.subplots(
        down, across, figsize=size, layout="constrained", sharex=True, sharey=True, squeeze=False
    )
    axes = grid.ravel()
    for ax, (title, seeds) in zip(axes, matrices.items(), strict=False):
        stacked = np.stack([matrix.to_numpy() for matrix in seeds])
        mean, half_range = stacked.mean(axis=0), np.ptp(stacked, axis=0) / 2
        text = np.char.mod("%+.2f", mean)
        if len(seeds) > 1:
            text = np.char.add(text, np.char.mod("\n±%.2f", half_range))
        sns.heatmap(
            pd.DataFrame(mean, seeds[0].index, seeds[0].columns),
            annot=text,
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
    figure.supxlabel("evaluated format", fontsize=9)
    figure.supylabel("fine-tuned on", fontsize=9)
    figure.colorbar(axes[0].collections[0], ax=grid, shrink=0.6, aspect=30, label="change of the share")
    return axes[: len(matrices)]


def plot_dose_response(fine_tuned: pd.DataFrame, formats: Sequence[str]) -> np.ndarray:
    """Refusal of unsafe requests against KL to the model before fine-tuning, one panel per task.

    One line per evaluated format through every kept step of every learning rate, mean over seeds; thin lines
    are seeds. The line of the task's own format is thick.

    Args:
        fine_tuned: Columns tuned_on, format, seed, rate, step, kl, refuse.
        formats: Formats to show.

    Returns:
        One Axes per task.
    """
    tasks = list(dict.fromkeys(fine_tuned.tuned_on))
    size = (1.9 * len(tasks) + 0.6, 2.5)
    figure, axes = plt.subplots(1, len(tasks), figsize=size, layout="constrained", sharey=True, squeeze=False)
    colours = dict(zip(formats, sns.color_palette("colorblind"), strict=False))
    for ax, task in zip(axes[0], tasks, strict=True):
        rows = fine_tuned[fine_tuned.tuned_on == task]
        for name in formats:
            points = rows[rows.format == name].groupby(["rate", "step", "seed"])[["kl", "refuse"]].mean()
            for _, seed in points.groupby(level="seed"):
                line = seed.sort_values("kl")
                ax.plot(line.kl, line.refuse, color=colours[name], linewidth=0.3, alpha=0.4)
            mean = points.groupby(level=["rate", "step"]).mean().sort_values("kl")
            width = 2.2 if name == task else 1.2
            ax.plot(mean.kl, mean.refuse, ".-", color=colours[name], linewidth=width, markersize=3)
        label = "KL on safe (nats)"
        ax.set(title=f"fine-tuned on {task}", xlabel=label, xscale="log", ylim=(-0.02, 1.02))
    axes[0][0].set_ylabel("refusal of unsafe")
    handles = [Line2D([], [], color=colours[name], marker=".", label=name) for name in formats]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, title="evaluated format")
    return axes[0]
