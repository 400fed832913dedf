"""Figures of attacks on a language model: success rates beside controls, and the progress of searches."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from makebreak.plots.style import plain_text

_GREY = (0.45, 0.45, 0.45)


def plot_attacks(table: pd.DataFrame) -> Axes:
    """Share of attacked requests on which each attack succeeds, with 95 % intervals over requests.

    One row per attack and one marker per criterion of success; markers of controls are hollow, and their
    names grey.

    Args:
        table: Columns attack, is_control, criterion, success_rate (None if the criterion does not apply),
            low, high.

    Returns:
        The Axes.
    """
    attacks, criteria = list(dict.fromkeys(table.attack)), list(dict.fromkeys(table.criterion))
    _, ax = plt.subplots(figsize=(5.6, 0.9 + 0.3 * len(attacks)), layout="constrained")
    colours = sns.color_palette("colorblind", len(criteria))
    for i, (criterion, colour) in enumerate(zip(criteria, colours, strict=True)):
        rows = table[(table.criterion == criterion) & table.success_rate.notna()]
        y = rows.attack.map(attacks.index).to_numpy() + (i - (len(criteria) - 1) / 2) * 0.6 / len(criteria)
        is_control = rows.is_control.astype(bool).to_numpy()
        ax.hlines(y, rows.low.astype(float), rows.high.astype(float), color=colour, linewidth=1)
        x = rows.success_rate.astype(float).to_numpy()
        ax.plot(x[~is_control], y[~is_control], "o", color=colour, markersize=4.5, label=criterion)
        ax.plot(x[is_control], y[is_control], "o", color=colour, markerfacecolor="white", markersize=4.5)
    ax.set_yticks(range(len(attacks)), [plain_text(name) for name in attacks])
    controls = set(table[table.is_control.astype(bool)].attack)
    for tick, name in zip(ax.get_yticklabels(), attacks, strict=True):
        tick.set_color(_GREY if name in controls else "black")
    ax.hlines(np.arange(len(attacks) - 1) + 0.5, 0, 1, color="0.92", linewidth=0.6, zorder=0)
    ax.set(xlabel="attack success rate", xlim=(-0.02, 1.02), ylim=(len(attacks) - 0.5, -0.5))
    ax.legend(title="success", loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7, title_fontsize=7)
    return ax


def plot_search(table: pd.DataFrame) -> Axes:
    """Lowest loss of the target so far by step, one line per search.

    A search ends when the model gives the target on every request.

    Args:
        table: Columns attack, step, loss (nats per token).

    Returns:
        The Axes.
    """
    _, ax = plt.subplots(figsize=(4.2, 2.6), layout="constrained")
    names = list(dict.fromkeys(table.attack))
    styles = ["-", "--", ":"] * len(names)
    for name, colour, line in zip(names, sns.color_palette("colorblind", len(names)), styles, strict=False):
        rows = table[table.attack == name].sort_values("step")
        ax.plot(rows.step, rows.loss, line, color=colour, linewidth=1.3, label=plain_text(name))
        ax.plot(rows.step.iloc[-1:], rows.loss.iloc[-1:], "o", color=colour, markersize=3.5)
    ax.set(xlabel="step", ylabel="loss of the target\n(nats per token)")
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=7)
    return ax
