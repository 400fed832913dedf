"""Do methods still differ where they have come equally far?"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportOperatorIssue=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from makebreak.plots.style import arm_colours, arm_name
from makebreak.stats import over_seeds


def plot_equal(
    table: pd.DataFrame, arms: Sequence[str], shown: Mapping[str, str], at: Mapping[str, str]
) -> np.ndarray:
    """One panel per column: means over seeds with 95 % intervals, by what the methods have in common;
    none where it is undefined on a seed.

    table: columns seed, arm, on and those of `shown` (column → label). at: value of `on` → its label.
    """
    figure, axes = plt.subplots(1, len(shown), figsize=(2.6 * len(shown) + 0.6, 2.4), layout="constrained")
    for ax, (column, label) in zip(np.atleast_1d(axes), shown.items(), strict=True):
        for i, arm in enumerate(arms):
            colour, rows = arm_colours(arms)[arm], table[table.arm == arm]
            for j, on in enumerate(at):
                x, values = (
                    j + (i - (len(arms) - 1) / 2) * 0.15,
                    rows[rows.on == on][column].dropna().tolist(),
                )
                if (
                    len(values) < rows.seed.nunique()
                ):  # a mean of some seeds would be of others than beside it
                    continue
                found = over_seeds(values)
                ax.plot(x, found.mean, "o", color=colour, markersize=4, label=None if j else arm_name(arm))
                if found.low is not None:
                    ax.vlines(x, found.low, found.high, color=colour, linewidth=1)
        ax.set_xticks(range(len(at)), list(at.values()))
        ax.set(ylabel=label, xlim=(-0.5, len(at) - 0.5))
    figure.legend(*np.atleast_1d(axes)[0].get_legend_handles_labels(), loc="outside right center")
    return np.atleast_1d(axes)
