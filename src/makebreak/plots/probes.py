"""Figure of linear probes for harmfulness and for refusal, and of steering at equal disturbance."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from makebreak.plots.layers import plot_layer_means
from makebreak.plots.style import arm_colours, arm_name

_PROBES = {"harm": ("text", "not refused: unsafe or safe"), "refusal": ("eot", "unsafe: refused or not")}
"""Position and title of each probe."""


def plot_probes(probes: pd.DataFrame, steering: pd.DataFrame, arms: Sequence[str]) -> np.ndarray:
    """AUROC of each probe where the other label is fixed, by layer; then effects of steering vectors.

    The third panel shows the share of the refusal margin of unsafe requests that a vector removes, at equal
    disturbance of safe requests: bars are means over seeds, dots the seeds.

    Args:
        probes: Columns seed, arm, network, position, layer, and for harm and refusal `PROBE_auroc` and
            `shuffled_PROBE_p95`.
        steering: Columns seed, arm, kind, unsafe_baseline, unsafe_margin.
        arms: Arms to show.

    Returns:
        Three Axes.
    """
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.6), layout="constrained")
    for ax, (probe, (position, title)) in zip(axes, _PROBES.items(), strict=False):
        part = probes[(probes.position == position) & probes.arm.isin(arms)]
        aligned = part[part.network == "aligned"]
        plot_layer_means(ax, aligned, arms, f"{probe}_auroc")
        base = part[part.network == "base"].groupby("layer")[f"{probe}_auroc"].mean()
        ax.plot(base.index + 1, base, "--", color="black", linewidth=1, label="base, same labels")
        chance = aligned.groupby("layer")[f"shuffled_{probe}_p95"].mean()
        ax.plot(chance.index + 1, chance, ":", color="black", linewidth=1, label="shuffled, 95th percentile")
        ax.set(title=title, ylabel="AUROC", ylim=(0.3, 1.02))
    _plot_margin_loss(axes[2], steering, arms)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return axes


def _plot_margin_loss(ax: Axes, steering: pd.DataFrame, arms: Sequence[str]) -> None:
    before = steering.unsafe_baseline
    loss = steering.assign(loss=(before - steering.unsafe_margin) / before)
    kinds = list(dict.fromkeys(loss.kind))
    for i, arm in enumerate(arms):
        y = np.arange(len(kinds)) + (i - (len(arms) - 1) / 2) * 0.8 / len(arms)
        rows = loss[loss.arm == arm].pivot(index="seed", columns="kind", values="loss")[kinds]
        ax.barh(y, rows.mean(), height=0.8 / len(arms), color=arm_colours(arms)[arm], label=arm_name(arm))
        ax.plot(rows.to_numpy().T, y, ".", color="black", markersize=1.5)
    ax.axvline(0, color="black", linewidth=0.6)
    ax.set_yticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
    ax.invert_yaxis()
    ax.set(title="steering at equal KL", xlabel="share of the margin removed")
