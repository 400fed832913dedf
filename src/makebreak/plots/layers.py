"""How do measures run through the layers? Lines are means over seeds, bands their 95 % Student intervals.

Sham arms, the controls, are dashed and bare: their intervals stand in the tables.
"""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from makebreak.plots.style import arm_colours, arm_name, layer_ticks
from makebreak.stats import over_seeds

_CONTROLS = {"other_seed_share": "another seed's null space", "permuted_share": "outputs permuted"}


def lines(ax: Axes, table: pd.DataFrame, arms: Sequence[str], column: str) -> None:
    """Means over seeds by layer, an arm a line; bands are 95 %, of arms that are no sham."""
    colours = arm_colours(arms)
    for arm in arms:
        by_layer = table[table.arm == arm].groupby("layer")[
            column
        ]  # a layer may lack rows, or be n/a on all seeds
        estimates = {
            int(i) + 1: over_seeds(values.tolist())
            for i, values in by_layer
            if values.notna().to_numpy().any()
        }
        layers, found = list(estimates), list(estimates.values())
        dashed = "--" if arm.startswith("sham") else "-"
        ax.plot(
            layers,
            [f.mean for f in found],
            dashed,
            color=colours[arm],
            marker="o",
            markersize=3,
            label=arm_name(arm),
        )
        if dashed == "-" and all(f.low is not None for f in found):
            low, high = ([getattr(f, end) for f in found] for end in ("low", "high"))
            ax.fill_between(layers, low, high, color=colours[arm], alpha=0.15, linewidth=0)
    ax.set(xlabel="layer", xticks=layer_ticks(table.layer + 1))


def plot_separation(table: pd.DataFrame, arms: Sequence[str]) -> np.ndarray:
    """Gap of τ by layer: raw on standard requests (as published), then normalised on standard and token-matched.

    table: columns seed, arm, layer, requests, gap, normalised, shuffled_normalised.
    """
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.6), layout="constrained")
    panels = [("standard", "gap", "raw gap of τ"), ("standard", "normalised", "normalised gap of τ")]
    panels.append(("token-matched", "normalised", "normalised gap of τ"))
    for ax, (requests, column, label) in zip(axes, panels, strict=True):
        part = table[table.requests == requests]
        lines(ax, part, arms, column)
        if column == "normalised":
            chance = part.groupby("layer")["shuffled_normalised"].mean()
            ax.plot(chance.index + 1, chance, ":", color="black", linewidth=1, label="shuffled labels")
            ax.set_ylim(-0.25, 2.05)
        ax.set(title=f"{requests} requests", ylabel=label)
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside right center")
    return axes


def plot_null_share(
    table: pd.DataFrame, arms: Sequence[str], pairs: dict[str, tuple[str, str]]
) -> np.ndarray:
    """Null share by layer: of W·a and of the update's ΔW·a on unsafe requests, then unsafe minus safe of W·a.

    table: columns seed, arm, layer, family, rule, quantity, outcome, share, chance, other_seed_share, permuted_share.
    pairs: arm → (safe, unsafe) families whose difference is shown: a sham's own.
    """
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.6), layout="constrained")
    exact = table[(table.rule == "exact") & (table.outcome == "all")]
    index = ["seed", "arm", "layer"]
    safe, unsafe = (
        pd.concat([exact[(exact.arm == arm) & (exact.family == pair[side])] for arm, pair in pairs.items()])
        for side in (0, 1)
    )
    for ax, quantity, name in ((axes[0], "pre", "W·a"), (axes[1], "delta", "ΔW·a")):
        part = unsafe[unsafe.quantity == quantity]
        lines(ax, part, [arm for arm in arms if (part.arm == arm).any()], "share")
        if quantity == "delta":
            ax.axhline(part.chance.mean(), color="black", linestyle=":", linewidth=1, label="chance")
            for style, (column, label) in zip(("-.", (0, (1, 3))), _CONTROLS.items(), strict=True):
                control = part.groupby("layer")[column].mean()
                ax.plot(control.index + 1, control, linestyle=style, color="black", linewidth=1, label=label)
        ax.set(title=f"{name}, unsafe requests", ylabel="null share")
    pre = [t[t.quantity == "pre"].set_index(index)["share"] for t in (unsafe, safe)]
    lines(axes[2], (pre[0] - pre[1]).reset_index(), arms, "share")
    axes[2].axhline(0, color="black", linestyle=":", linewidth=1)
    axes[2].set(title="W·a, unsafe - safe", ylabel="difference of null share")
    drawn = {
        name: line for ax in axes[:2] for line, name in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(drawn.values()), list(drawn), loc="outside right center")
    return axes
