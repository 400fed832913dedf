"""Which parts of the network carry the refusal margin?"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from makebreak.plots.style import arm_colours, arm_name


def plot_parts(table: pd.DataFrame, arms: Sequence[str]) -> np.ndarray:
    """Share of the margin by part: alone, beside all others, and Shapley; bars are means over seeds, dots the seeds.

    table: columns seed, arm, part, alone, beside, shapley; parts in the order of the network.
    """
    parts = list(dict.fromkeys(table.part))
    figure, axes = plt.subplots(
        1, 3, figsize=(8.4, 0.8 + 0.22 * len(parts)), sharey=True, layout="constrained"
    )
    colours = arm_colours(arms)
    for ax, column in zip(axes, ("alone", "beside", "shapley"), strict=True):
        for i, arm in enumerate(arms):
            rows = table[table.arm == arm].pivot(index="seed", columns="part", values=column)[parts]
            place = np.arange(len(parts)) + (i - (len(arms) - 1) / 2) * 0.8 / len(arms)
            ax.barh(place, rows.mean(), height=0.8 / len(arms), color=colours[arm], label=arm_name(arm))
            ax.plot(rows.to_numpy().T, place, ".", color="black", markersize=1.5)
        ax.axvline(0, color="black", linewidth=0.6)
        ax.set(title={"alone": "alone", "beside": "lost without it", "shapley": "Shapley"}[column])
        ax.set_xlabel("share of the margin")
    axes[0].set_yticks(range(len(parts)), [part.removeprefix("blocks.").replace("_", " ") for part in parts])
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return axes
