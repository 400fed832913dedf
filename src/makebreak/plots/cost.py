"""What does firmness cost? Refusal margin against KL on safe requests, along every run."""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from makebreak.plots.style import arm_colours, arm_name


def plot_cost(zoo: pd.DataFrame, arms: Sequence[str]) -> np.ndarray:
    """Three panels: margin on unsafe requests, compliance on safe ones and ‖ΔW‖, each against KL on safe requests.

    zoo: columns seed, arm, at, margin, safe.comply, weight_change, kl_on_safe. A line is an arm's mean over seeds
    from its first kept step to its last (the marker); thin lines are seeds.
    """
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), layout="constrained")
    shown = {"margin": "margin on unsafe (nats)", "safe.comply": "comply on safe", "weight_change": "‖ΔW‖"}
    colours = arm_colours(arms)
    for ax, (column, label) in zip(axes, shown.items(), strict=True):
        for arm in arms:
            rows = zoo[zoo.arm == arm]
            if rows.empty:
                continue
            for _, seed in rows.groupby("seed"):
                ax.plot(seed.kl_on_safe, seed[column], color=colours[arm], lw=0.4, alpha=0.5)
            mean = rows.groupby("at")[["kl_on_safe", column]].mean()
            ax.plot(mean.kl_on_safe, mean[column], color=colours[arm], lw=1.4, label=arm_name(arm))
            ax.plot(mean.kl_on_safe.iloc[-1:], mean[column].iloc[-1:], "o", ms=4, color=colours[arm])
        ax.set(xscale="log", xlabel="KL(base ‖ model) on safe (nats per token)", ylabel=label)
    axes[1].set_ylim(None, 1.01)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return axes
