"""Figure of monitors of activations: share of requests that are flagged, by layer."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from makebreak.plots.style import layer_ticks, plain_text


def plot_monitors(table: pd.DataFrame) -> np.ndarray:
    """Share of requests that each kind of monitor flags, by layer, one line per family.

    Args:
        table: Columns kind, layer, family, flag_rate, low and high (95 % interval), and the nominal
            false_positive_rate.

    Returns:
        One Axes per kind.
    """
    kinds, families = list(dict.fromkeys(table.kind)), list(dict.fromkeys(table.family))
    _, axes = plt.subplots(1, len(kinds), figsize=(3.2 * len(kinds), 2.4), sharey=True, layout="constrained")
    axes = np.atleast_1d(axes)
    for ax, kind in zip(axes, kinds, strict=True):
        for family, colour in zip(families, sns.color_palette("colorblind", len(families)), strict=True):
            rows = table[(table.kind == kind) & (table.family == family)].sort_values("layer")
            ax.plot(
                rows.layer + 1, rows.flag_rate, "o-", color=colour, label=plain_text(family), markersize=3
            )
            ax.fill_between(rows.layer + 1, rows.low, rows.high, color=colour, alpha=0.15, linewidth=0)
        ax.axhline(table.false_positive_rate.iloc[0], color="black", linestyle=":", linewidth=0.8)
        ax.set(title=plain_text(kind), xlabel="after layer", ylim=(-0.02, 1.02))
        ax.set_xticks(layer_ticks(table.layer + 1))
    axes[0].set_ylabel("share flagged")
    axes[-1].legend(fontsize=7)
    return axes
