"""Which attacks on a language model succeed, beside their controls, and how fast? Intervals are over requests."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

_GREY = (0.45, 0.45, 0.45)


def plot_attacks(table: pd.DataFrame) -> Axes:
    """Share of attacked requests on which an attack succeeds, a row per attack and a mark per sense of success, with
    its 95 % interval over requests; controls are hollow.

    table: columns attack, control, sense, success (None where a sense does not apply), low, high.
    """
    attacks, senses = list(dict.fromkeys(table.attack)), list(dict.fromkeys(table.sense))
    _, ax = plt.subplots(figsize=(5.6, 0.9 + 0.3 * len(attacks)), layout="constrained")
    for i, (sense, colour) in enumerate(
        zip(senses, sns.color_palette("colorblind", len(senses)), strict=True)
    ):
        rows = table[(table.sense == sense) & table.success.notna()]
        y = rows.attack.map(attacks.index).to_numpy() + (i - (len(senses) - 1) / 2) * 0.6 / len(senses)
        control = rows.control.astype(bool).to_numpy()
        low, high, x = (rows[column].astype(float).to_numpy() for column in ("low", "high", "success"))
        ax.hlines(y, low, high, color=colour, linewidth=1)
        for hollow in (False, True):
            chosen = control == hollow
            inside = "white" if hollow else colour
            label = sense if not hollow else None
            ax.plot(
                x[chosen], y[chosen], "o", color=colour, markerfacecolor=inside, markersize=4.5, label=label
            )
    ax.set_yticks(range(len(attacks)), attacks)
    controls = set(table[table.control.astype(bool)].attack)
    for tick, name in zip(ax.get_yticklabels(), attacks, strict=True):
        tick.set_color(_GREY if name in controls else "black")
    ax.hlines(np.arange(len(attacks) - 1) + 0.5, 0, 1, color="0.92", linewidth=0.6, zorder=0)
    ax.set(xlabel="share of attacked requests", xlim=(-0.02, 1.02), ylim=(len(attacks) - 0.5, -0.5))
    ax.legend(title="success", loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7, title_fontsize=7)
    return ax


def plot_search(table: pd.DataFrame) -> Axes:
    """Best loss of the target by step of a search, a line per way to search; a search ends where every request gives
    its target.

    table: columns attack, step, loss.
    """
    _, ax = plt.subplots(figsize=(4.2, 2.6), layout="constrained")
    names = list(dict.fromkeys(table.attack))
    styles = ["-", "--", ":"] * len(names)
    for name, colour, line in zip(names, sns.color_palette("colorblind", len(names)), styles, strict=False):
        rows = table[table.attack == name].sort_values("step")
        ax.plot(rows.step, rows.loss, line, color=colour, linewidth=1.3, label=name)
        ax.plot(rows.step.iloc[-1:], rows.loss.iloc[-1:], "o", color=colour, markersize=3.5)
    ax.set(xlabel="step", ylabel="loss of the target\n(nats per token)")
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=7)
    return ax
