"""Does a measure tell safety from any other tuning? A value beside its controls."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes


def plot_ladder(ladder: pd.DataFrame, name: str) -> Axes:
    """Value minus each control, by mechanism, with 95 % intervals over seeds; nought is "as the control".

    ladder: as `zoo.ladder` gives it. name: of the column, for the axis.
    """
    part = ladder[ladder.rung != "value"]
    runs = part[["mechanism", "settings", "learning_rate"]].apply(
        lambda r: f"{r.mechanism}, {r.learning_rate:g}", axis=1
    )
    labels, rungs = list(dict.fromkeys(runs)), list(dict.fromkeys(part.rung))
    _, ax = plt.subplots(figsize=(5.2, 0.8 + 0.32 * len(labels)), layout="constrained")
    for i, (rung, colour) in enumerate(zip(rungs, sns.color_palette("colorblind"), strict=False)):
        rows = part[part.rung == rung]
        place = runs[rows.index].map(labels.index).to_numpy() + (i - (len(rungs) - 1) / 2) * 0.7 / len(rungs)
        ax.plot(rows.estimate, place, "o", color=colour, markersize=3.5, label=f"minus {rung}")
        known = rows.low.notna().to_numpy()
        ax.hlines(
            place[known],
            rows.low[known].astype(float),
            rows.high[known].astype(float),
            color=colour,
            linewidth=1,
        )
    ax.axvline(0, color="black", linestyle=":", linewidth=1)
    ax.set(xlabel=name, yticks=np.arange(len(labels)), yticklabels=labels)
    ax.invert_yaxis()
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7)
    return ax
