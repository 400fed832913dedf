"""Figure of a column of the zoo: safety-tuned runs minus their controls."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes


def plot_controls(controls: pd.DataFrame, name: str) -> Axes:
    """Value minus each control, by mechanism, with 95 % intervals over seeds; 0 is no difference.

    Args:
        controls: A table of `zoo.compare_with_controls`.
        name: Name of the column that is compared, for the axis.

    Returns:
        The Axes.
    """
    part = controls[controls.control != "none"]
    runs = part.mechanism + ", " + part.learning_rate.map("{:g}".format)
    labels, names = list(dict.fromkeys(runs)), list(dict.fromkeys(part.control))
    _, ax = plt.subplots(figsize=(5.2, 0.8 + 0.32 * len(labels)), layout="constrained")
    for i, (control, colour) in enumerate(zip(names, sns.color_palette("colorblind"), strict=False)):
        rows = part[part.control == control]
        y = runs[rows.index].map(labels.index).to_numpy() + (i - (len(names) - 1) / 2) * 0.7 / len(names)
        ax.plot(rows.estimate, y, "o", color=colour, markersize=3.5, label=f"minus {control}")
        known = rows.low.notna().to_numpy()
        low, high = (rows[end][known].astype(float) for end in ("low", "high"))
        ax.hlines(y[known], low, high, color=colour, linewidth=1)
    ax.axvline(0, color="black", linestyle=":", linewidth=1)
    ax.set(xlabel=name, yticks=np.arange(len(labels)), yticklabels=labels)
    ax.invert_yaxis()
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7)
    return ax
