"""Figure of a matched comparison: methods at an equal value of one column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from makebreak.plots.style import arm_colours, arm_name
from makebreak.stats import mean_confidence_interval


def plot_matched_comparison(
    table: pd.DataFrame, arms: Sequence[str], columns: Mapping[str, str], matched_on: Mapping[str, str]
) -> np.ndarray:
    """Means over seeds with 95 % intervals, by what the arms are matched on; one panel per column.

    An arm is left out where the column is undefined on a seed, because its mean would be over other seeds
    than that of the other arms.

    Args:
        table: Columns seed, arm, on, and those in `columns`.
        arms: Arms to show.
        columns: Label of each column to show.
        matched_on: Label of each value of `on` to show.

    Returns:
        One Axes per column.
    """
    size = (2.6 * len(columns) + 0.6, 2.4)
    figure, axes = plt.subplots(1, len(columns), figsize=size, layout="constrained", squeeze=False)
    for ax, (column, label) in zip(axes[0], columns.items(), strict=True):
        for i, arm in enumerate(arms):
            colour, rows = arm_colours(arms)[arm], table[table.arm == arm]
            for j, on in enumerate(matched_on):
                x = j + (i - (len(arms) - 1) / 2) * 0.15
                values = rows[rows.on == on][column].dropna().tolist()
                if len(values) < rows.seed.nunique():
                    continue
                interval = mean_confidence_interval(values)
                name = None if j else arm_name(arm)
                ax.plot(x, interval.mean, "o", color=colour, markersize=4, label=name)
                if interval.low is not None and interval.high is not None:
                    ax.vlines(x, interval.low, interval.high, color=colour, linewidth=1)
        ax.set_xticks(range(len(matched_on)), list(matched_on.values()))
        ax.set(ylabel=label, xlim=(-0.5, len(matched_on) - 0.5))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
    return axes[0]
