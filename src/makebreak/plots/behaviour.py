"""What do models do on each family of requests?"""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from makebreak.plots.style import OUTCOME_COLOURS, arm_name


def plot_outcomes(table: pd.DataFrame, arms: Sequence[str], families: Sequence[str]) -> np.ndarray:
    """Stacked bars of the four outcomes, a panel per arm, a bar per family; means over seeds.

    table: columns seed, arm, family and one per outcome. The dots are the seeds' refuse rates.
    """
    figure, axes = plt.subplots(
        1,
        len(arms),
        figsize=(1.2 + 1.7 * len(arms), max(1.5, 0.6 + 0.22 * len(families))),
        sharey=True,
        layout="constrained",
    )
    axes = np.atleast_1d(axes)
    place = np.arange(len(families))
    for ax, arm in zip(axes, arms, strict=True):
        part = table[(table.arm == arm) & table.family.isin(families)]
        means = part.groupby("family")[list(OUTCOME_COLOURS)].mean().reindex(families)
        left = np.zeros(len(families))
        for outcome, colour in OUTCOME_COLOURS.items():
            ax.barh(
                place, means[outcome], left=left, color=colour, height=0.75, label=outcome.replace("_", " ")
            )
            left += means[outcome].to_numpy()
        ax.plot(part.refuse, part.family.map(families.index), "k.", markersize=2.5)
        ax.set(title=arm_name(arm), xlim=(0, 1), xlabel="share", xticks=[0, 0.5, 1])
        ax.set_yticks(place, [f.replace("_", " ") for f in families])
    axes[0].invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return axes
