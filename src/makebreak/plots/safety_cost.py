"""Figure of the cost of safety: refusal margin, compliance and ‖ΔW‖ against KL on safe requests."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from makebreak.plots.style import arm_colours, arm_name

_PANELS = {
    "margin": "margin on unsafe (nats)",
    "safe.comply": "compliance on safe",
    "weight_change": "‖ΔW‖",
}


def plot_safety_cost(zoo: pd.DataFrame, arms: Sequence[str]) -> np.ndarray:
    """Refusal margin on unsafe requests, compliance on safe ones and ‖ΔW‖, each against KL on safe requests.

    KL is KL(base ‖ model). A line goes from the first kept step of an arm to its last (the marker), mean over
    seeds; thin lines are seeds.

    Args:
        zoo: Columns seed, arm, at (steps since the base), margin, safe.comply, weight_change, kl_on_safe.
        arms: Arms to show.

    Returns:
        Three Axes.
    """
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), layout="constrained")
    colours = arm_colours(arms)
    for ax, (column, label) in zip(axes, _PANELS.items(), strict=True):
        for arm in arms:
            rows = zoo[zoo.arm == arm]
            if rows.empty:
                continue
            for _, seed in rows.groupby("seed"):
                ax.plot(seed.kl_on_safe, seed[column], color=colours[arm], lw=0.4, alpha=0.5)
            mean = rows.groupby("at")[["kl_on_safe", column]].mean()
            ax.plot(mean.kl_on_safe, mean[column], color=colours[arm], lw=1.4, label=arm_name(arm))
            ax.plot(mean.kl_on_safe.iloc[-1:], mean[column].iloc[-1:], "o", ms=4, color=colours[arm])
        ax.set(xscale="log", xlabel="KL on safe (nats per token)", ylabel=label)
    axes[1].set_ylim(None, 1.01)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return axes
