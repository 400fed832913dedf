"""Is unsafe represented apart from refused, and does the difference of means do more than other shifts?"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportOperatorIssue=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from makebreak.plots.layers import lines
from makebreak.plots.style import arm_colours, arm_name

_LABELS = {"unsafe": ("text", "not refused: unsafe or safe"), "refused": ("eot", "unsafe: refused or not")}


def plot_apart(labels: pd.DataFrame, shifts: pd.DataFrame, arms: Sequence[str]) -> np.ndarray:
    """AUROC of each label where the other is fixed, by layer; then the share of the margin that shifts take off unsafe
    requests which disturb safe ones equally, bars are means over seeds, dots the seeds.

    labels: columns seed, arm, network, position, layer, LABEL_auroc, shuffled_LABEL_high. shifts: seed, arm, kind,
    unsafe_before, unsafe_margin.
    """
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.6), layout="constrained")
    for ax, (label, (position, title)) in zip(axes, _LABELS.items(), strict=False):
        part = labels[(labels.position == position) & labels.arm.isin(arms)]
        lines(ax, part[part.network == "aligned"], arms, f"{label}_auroc")
        of_base = part[part.network == "base"].groupby("layer")[f"{label}_auroc"].mean()
        ax.plot(of_base.index + 1, of_base, "--", color="black", linewidth=1, label="base, same labels")
        chance = part[part.network == "aligned"].groupby("layer")[f"shuffled_{label}_high"].mean()
        ax.plot(chance.index + 1, chance, ":", color="black", linewidth=1, label="shuffled, 95th percentile")
        ax.set(title=title, ylabel="AUROC", ylim=(0.3, 1.02))
    _shares(axes[2], shifts, arms)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return axes


def _shares(ax: Axes, shifts: pd.DataFrame, arms: Sequence[str]) -> None:
    lost = shifts.assign(lost=(shifts.unsafe_before - shifts.unsafe_margin) / shifts.unsafe_before)
    kinds = list(dict.fromkeys(lost.kind))
    for i, arm in enumerate(arms):
        place = np.arange(len(kinds)) + (i - (len(arms) - 1) / 2) * 0.8 / len(arms)
        rows = lost[lost.arm == arm].pivot(index="seed", columns="kind", values="lost")[kinds]
        ax.barh(place, rows.mean(), height=0.8 / len(arms), color=arm_colours(arms)[arm], label=arm_name(arm))
        ax.plot(rows.to_numpy().T, place, ".", color="black", markersize=1.5)
    ax.axvline(0, color="black", linewidth=0.6)
    ax.set_yticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
    ax.invert_yaxis()
    ax.set(title="shifts that disturb equally", xlabel="share of the margin lost")
