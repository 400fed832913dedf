"""Figures of the learnt update: the parts that carry refusal, the inputs it reads, the kernel of W_out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from makebreak.plots.layers import plot_layer_means
from makebreak.plots.style import arm_colours, arm_name

_SPACES = {
    "left null": "left\nnull",
    "random as left null": "random,\nas large",
    "column": "column",
    "random as column": "random,\nas large",
}
_PANELS = {("mlp.W_in", "exact"): "W_in, exact rank", ("all", "energy90"): "all matrices, rank of 90 %"}


def plot_update_projection(table: pd.DataFrame, arms: Sequence[str]) -> np.ndarray:
    """Share of the refusal margin that remains with only a part of the learnt update.

    Left: of W_in, with the left null space by exact rank; right: of every matrix, each on a space of its own,
    with the rank that holds 90 % of the energy. Bars are means over seeds, dots the seeds; lines at random
    subspaces are one standard deviation over draws.

    Args:
        table: Columns seed, arm, matrices, rule, space, share_of_margin, share_of_margin_sd.
        arms: Arms to show.

    Returns:
        Two Axes.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 2.6), layout="constrained", sharey=True)
    for ax, ((matrices, rule), title) in zip(axes, _PANELS.items(), strict=True):
        part = table[(table.matrices == matrices) & (table.rule == rule)]
        _plot_shares(ax, part, arms)
        ax.set(title=title, xlabel="part of the update that is kept")
        ax.set_xticks(range(len(_SPACES)), list(_SPACES.values()))
    axes[0].set_ylabel("share of the margin")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return axes


def _plot_shares(ax: Axes, part: pd.DataFrame, arms: Sequence[str]) -> None:
    """Bars by subspace and arm."""
    width, colours = 0.8 / len(arms), arm_colours(arms)
    for i, arm in enumerate(arms):
        rows = part[part.arm == arm]
        shares = rows.pivot(index="seed", columns="space", values="share_of_margin").reindex(
            columns=list(_SPACES)
        )
        errors = rows.groupby("space").share_of_margin_sd.mean().reindex(list(_SPACES))
        x = np.arange(len(_SPACES)) + (i - (len(arms) - 1) / 2) * width
        ax.bar(x, shares.mean(), width, color=colours[arm], label=arm_name(arm))
        ax.errorbar(x, shares.mean(), errors, fmt="none", ecolor="black", elinewidth=0.8)
        ax.plot(x, shares.to_numpy().T, ".", color="black", markersize=1.5)
    for share in (0, 1):
        ax.axhline(share, color="black", linewidth=0.6)


def plot_leading_gain(
    table: pd.DataFrame,
    arms: Sequence[str],
    pairs: Mapping[str, tuple[str, str]],
    *,
    matrix: str = "mlp.W_in",
) -> np.ndarray:
    """Read gain of the leading right singular directions of ΔW, unsafe over safe, by layer.

    Args:
        table: Columns seed, arm, layer, matrix, family, gain, gain_1, gain_2, gain_8.
        arms: Arms to show.
        pairs: Safe and unsafe family of each arm; those of a sham control are its own.
        matrix: Matrix to show, `mlp.W_in` or, of a gated MLP, `mlp.W_gate`.

    Returns:
        Four Axes: the first direction, the first two, the first eight, and all of ΔW; logarithmic scale.
    """
    titles = {"gain_1": "first direction", "gain_2": "first two", "gain_8": "first eight", "gain": "all"}
    figure, axes = plt.subplots(1, 4, figsize=(8.4, 2.6), layout="constrained", sharey=True)
    rows = table[table.matrix == matrix]
    index = ["seed", "arm", "layer"]
    safe, unsafe = (_of_pairs(rows, pairs, side).set_index(index)[list(titles)] for side in (0, 1))
    ratios = (unsafe / safe).apply(np.log).reset_index()
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        plot_layer_means(ax, ratios, arms, column)
        ax.axhline(0, color="black", linestyle=":", linewidth=1)
        ax.set(title=title)
    axes[0].set_ylabel("log gain, unsafe / safe")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return axes


def plot_kernel_share(
    table: pd.DataFrame, arms: Sequence[str], pairs: Mapping[str, tuple[str, str]]
) -> np.ndarray:
    """Share of the change of post-activations in the kernel of W_out, by layer.

    Args:
        table: Columns seed, arm, layer, family, share, chance, other_seed_share.
        arms: Arms to show.
        pairs: Safe and unsafe family of each arm; those of a sham control are its own.

    Returns:
        Two Axes: safe requests and unsafe ones, with chance and the kernel of another seed's W_out.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 2.6), layout="constrained", sharey=True)
    for ax, side, title in zip(axes, (0, 1), ("safe requests", "unsafe requests"), strict=True):
        part = _of_pairs(table, pairs, side)
        plot_layer_means(ax, part, arms, "share")
        ax.axhline(part.chance.mean(), color="black", linestyle=":", linewidth=1, label="chance")
        control = part.groupby("layer").other_seed_share.mean()
        ax.plot(control.index + 1, control, "-.", color="black", linewidth=1, label="another seed's W_out")
        ax.set(title=title)
    axes[0].set_ylabel("share in ker(W_out)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return axes


def _of_pairs(table: pd.DataFrame, pairs: Mapping[str, tuple[str, str]], side: int) -> pd.DataFrame:
    """Rows of each arm on its safe (0) or its unsafe (1) family."""
    return pd.concat(
        [table[(table.arm == arm) & (table.family == families[side])] for arm, families in pairs.items()]
    )
