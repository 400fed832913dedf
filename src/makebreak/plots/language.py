"""Figures of one language model: refusal rates, class separation, refusal directions and training loss.

Intervals are over requests.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from makebreak.plots.style import plain_text


def plot_refusal_rates(table: pd.DataFrame, by: str) -> Axes:
    """Refusal rates with their 95 % intervals over requests, one bar per judge.

    Args:
        table: Columns judge, refuse, low, high, and `by`.
        by: Column of groups, along the axis.

    Returns:
        The Axes.
    """
    groups, judges = list(dict.fromkeys(table[by])), list(dict.fromkeys(table.judge))
    _, ax = plt.subplots(figsize=(1.2 + 1.1 * len(groups), 2.6), layout="constrained")
    colours = sns.color_palette("colorblind", len(judges))
    for i, (judge, colour) in enumerate(zip(judges, colours, strict=True)):
        rows = table[table.judge == judge].set_index(by).loc[groups]
        x = np.arange(len(groups)) + (i - (len(judges) - 1) / 2) * 0.8 / len(judges)
        ax.bar(x, rows.refuse, width=0.8 / len(judges), color=colour, label=judge)
        ax.vlines(x, rows.low, rows.high, color="black", linewidth=0.8)
    ax.set_xticks(range(len(groups)), [plain_text(group).replace(", ", ",\n") for group in groups])
    ax.set(ylabel="refusal rate", ylim=(0, 1.02))
    ax.legend(loc="upper right", fontsize=7)
    return ax


def plot_class_separation(clusters: pd.DataFrame) -> np.ndarray:
    """Separation of harmful and harmless requests by layer: normalised gap of τ, and AUROC with its interval.

    Args:
        clusters: Columns layer, normalised, shuffled_normalised, auroc, auroc_low, auroc_high,
            shuffled_auroc.

    Returns:
        Two Axes.
    """
    _, axes = plt.subplots(1, 2, figsize=(6.4, 2.4), layout="constrained")
    rows = clusters.sort_values("layer")
    layers, chance = rows.layer + 1, "shuffled labels"
    for ax, column, label in zip(
        axes, ("normalised", "auroc"), ("normalised gap of τ", "AUROC of τ"), strict=True
    ):
        ax.plot(layers, rows[column], color="black", linewidth=1.2, label="held-out requests")
        ax.plot(layers, rows[f"shuffled_{column}"], ":", color="black", linewidth=1, label=chance)
        ax.set(xlabel="layer", ylabel=label)
    axes[1].fill_between(layers, rows.auroc_low, rows.auroc_high, color="black", alpha=0.15, linewidth=0)
    axes[1].set_ylim(0, 1.02)
    axes[1].legend(loc="lower right", fontsize=7)
    return axes


def plot_refusal_directions(table: pd.DataFrame) -> np.ndarray:
    """Effects of every candidate for the refusal direction, by layer; the selected one is marked.

    Args:
        table: Columns layer; bypass, log-odds of a refusal on harmful requests under ablation; induce,
            log-odds on harmless requests under addition; kl, KL on harmless requests under ablation;
            is_selected.

    Returns:
        Three Axes.
    """
    _, axes = plt.subplots(1, 3, figsize=(7.4, 2.4), layout="constrained")
    titles = {"bypass": "ablated: harmful", "induce": "added: harmless", "kl": "ablated: KL on harmless"}
    rows = table.sort_values("layer")
    selected = rows[rows.is_selected.astype(bool)]
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        ax.plot(rows.layer + 1, rows[column].astype(float), "o-", color="black", linewidth=1, markersize=2)
        x, y = selected.layer + 1, selected[column].astype(float)
        ax.plot(x, y, "o", color="C3", markersize=7, fillstyle="none")
        label = "KL (nats)" if column == "kl" else "log-odds of a refusal"
        ax.set(title=title, xlabel="before layer", ylabel=label)
    return axes


def plot_training_loss(table: pd.DataFrame) -> Axes:
    """Training loss by step, from a table with the columns step and loss."""
    _, ax = plt.subplots(figsize=(4.2, 2.4), layout="constrained")
    ax.plot(table.step + 1, table.loss, color="black", linewidth=1.2)
    ax.set(xlabel="step", ylabel="loss")
    return ax
