"""Figure of the localisation of the refusal margin in components of the network."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from makebreak.plots.style import arm_colours, arm_name

_TITLES = {"only": "leave one in", "without": "leave one out", "shapley": "Shapley value"}


def plot_localisation(table: pd.DataFrame, arms: Sequence[str]) -> np.ndarray:
    """Share of the refusal margin by component; bars are means over seeds, dots the seeds.

    Args:
        table: Columns seed, arm, part, only, without, shapley; parts in the order of the network.
        arms: Arms to show.

    Returns:
        Three Axes: margin with only the component aligned, margin lost without it, and Shapley value.
    """
    parts = list(dict.fromkeys(table.part))
    size = (8.4, 0.8 + 0.22 * len(parts))
    figure, axes = plt.subplots(1, 3, figsize=size, sharey=True, layout="constrained")
    colours = arm_colours(arms)
    for ax, (column, title) in zip(axes, _TITLES.items(), strict=True):
        for i, arm in enumerate(arms):
            rows = table[table.arm == arm].pivot(index="seed", columns="part", values=column)[parts]
            y = np.arange(len(parts)) + (i - (len(arms) - 1) / 2) * 0.8 / len(arms)
            ax.barh(y, rows.mean(), height=0.8 / len(arms), color=colours[arm], label=arm_name(arm))
            ax.plot(rows.to_numpy().T, y, ".", color="black", markersize=1.5)
        ax.axvline(0, color="black", linewidth=0.6)
        ax.set(title=title, xlabel="share of the refusal margin")
    axes[0].set_yticks(range(len(parts)), [part.removeprefix("blocks.").replace("_", " ") for part in parts])
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return axes
