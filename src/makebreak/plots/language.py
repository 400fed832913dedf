"""How does one language model take to requests, and what does refusing hang on? Intervals are over requests."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportOperatorIssue=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes


def plot_refusals(table: pd.DataFrame, by: str) -> Axes:
    """Share refused, a bar per judge with its 95 % interval over requests.

    table: columns judge, refuse, low, high and `by`, what is on the axis.
    """
    places, judges = list(dict.fromkeys(table[by])), list(dict.fromkeys(table.judge))
    _, ax = plt.subplots(figsize=(1.2 + 1.1 * len(places), 2.6), layout="constrained")
    colours = sns.color_palette("colorblind", len(judges))
    for i, (judge, colour) in enumerate(zip(judges, colours, strict=True)):
        rows = table[table.judge == judge].set_index(by).loc[places]
        x = np.arange(len(places)) + (i - (len(judges) - 1) / 2) * 0.8 / len(judges)
        ax.bar(x, rows.refuse, width=0.8 / len(judges), color=colour, label=judge)
        ax.vlines(x, rows.low, rows.high, color="black", linewidth=0.8)
    ax.set_xticks(range(len(places)), [place.replace(", ", ",\n") for place in places])
    ax.set(ylabel="refused", ylim=(0, 1.02))
    ax.legend(loc="upper right", fontsize=7)
    return ax


def plot_layers(clusters: pd.DataFrame) -> np.ndarray:
    """Separation of harmful and harmless requests by layer: normalised gap, and AUROC with its interval over requests.

    clusters: columns layer, normalised, shuffled_normalised, auroc, auroc_low, auroc_high, shuffled_auroc.
    """
    _, axes = plt.subplots(1, 2, figsize=(6.4, 2.4), layout="constrained")
    rows = clusters.sort_values("layer")
    for ax, column, label in (
        (axes[0], "normalised", "normalised gap of τ"),
        (axes[1], "auroc", "AUROC of τ"),
    ):
        ax.plot(rows.layer + 1, rows[column], color="black", linewidth=1.2, label="held-out requests")
        ax.plot(
            rows.layer + 1,
            rows[f"shuffled_{column}"],
            ":",
            color="black",
            linewidth=1,
            label="shuffled labels",
        )
        ax.set(xlabel="layer", ylabel=label)
    axes[1].fill_between(
        rows.layer + 1, rows.auroc_low, rows.auroc_high, color="black", alpha=0.15, linewidth=0
    )
    axes[1].set_ylim(0, 1.02)
    axes[1].legend(loc="lower right", fontsize=7)
    return axes


def plot_directions(table: pd.DataFrame) -> np.ndarray:
    """What every candidate does, by layer: log-odds of a refusal on harmful requests under ablation, on harmless ones
    under addition, and the KL that ablation costs; the one selected is marked.

    table: columns layer, bypass, induce, kl, selected.
    """
    _, axes = plt.subplots(1, 3, figsize=(7.4, 2.4), layout="constrained")
    titles = {"bypass": "ablated: harmful", "induce": "added: harmless", "kl": "ablated: KL on harmless"}
    rows = table.sort_values("layer")
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        ax.plot(rows.layer + 1, rows[column].astype(float), "o-", color="black", linewidth=1, markersize=2)
        chosen = rows[rows.selected.astype(bool)]
        ax.plot(
            chosen.layer + 1, chosen[column].astype(float), "o", color="C3", markersize=7, fillstyle="none"
        )
        ax.set(
            title=title,
            xlabel="before layer",
            ylabel="KL (nats)" if column == "kl" else "log-odds of a refusal",
        )
    return axes


def plot_training(table: pd.DataFrame) -> Axes:
    """Loss by step. table: columns step, loss."""
    _, ax = plt.subplots(figsize=(4.2, 2.4), layout="constrained")
    ax.plot(table.step + 1, table.loss, color="black", linewidth=1.2)
    ax.set(xlabel="step", ylabel="loss")
    return ax
