"""Figure of the outcomes of models on each family of requests."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from makebreak.plots.style import OUTCOME_COLOURS, OUTCOME_NAMES, arm_name


def plot_outcomes(table: pd.DataFrame, arms: Sequence[str], families: Sequence[str]) -> np.ndarray:
    """Stacked bars of the four outcomes, means over seeds; dots are the refusal rates of the seeds.

    Args:
        table: Columns seed, arm, family and one per outcome.
        arms: Arms to show, one panel each.
        families: Families to show, one bar each.

    Returns:
        One Axes per arm.
    """
    size = (1.2 + 1.7 * len(arms), max(1.5, 0.6 + 0.22 * len(families)))
    figure, axes = plt.subplots(1, len(arms), figsize=size, sharey=True, layout="constrained")
    axes = np.atleast_1d(axes)
    y = np.arange(len(families))
    for ax, arm in zip(axes, arms, strict=True):
        part = table[(table.arm == arm) & table.family.isin(families)]
        means = part.groupby("family")[list(OUTCOME_COLOURS)].mean().reindex(list(families))
        left = np.zeros(len(families))
        for outcome, colour in OUTCOME_COLOURS.items():
            label = OUTCOME_NAMES[outcome]
            ax.barh(y, means[outcome], left=left, color=colour, height=0.75, label=label)
            left += means[outcome].to_numpy()
        ax.plot(part.refuse, part.family.map(families.index), "k.", markersize=2.5)
        ax.set(title=arm_name(arm), xlim=(0, 1), xlabel="share of requests", xticks=[0, 0.5, 1])
        ax.set_yticks(y, [family.replace("_", " ") for family in families])
    axes[0].invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return axes
