"""Figures of measures by layer: means over seeds, with 95 % Student intervals as bands.

Sham controls are dashed and have no band; their intervals are in the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from makebreak.plots.style import arm_colours, arm_name, layer_ticks
from makebreak.stats import mean_confidence_interval

_CONTROLS = {"other_seed_share": "another seed's null space", "permuted_share": "outputs permuted"}
_CONTROL_DASHES = ("-.", (0, (1, 3)))


def plot_layer_means(ax: Axes, table: pd.DataFrame, arms: Sequence[str], column: str) -> None:
    """Draws means over seeds by layer, one line per arm, with 95 % bands unless the arm is a sham control.

    A layer without a value on any seed is left out.

    Args:
        ax: Where to draw.
        table: Columns arm, layer (from 0), and `column`.
        arms: Arms to show.
        column: Column to show.
    """
    colours = arm_colours(arms)
    for arm in arms:
        intervals = {
            int(layer) + 1: mean_confidence_interval(values.tolist())  # pyright: ignore[reportArgumentType]
            for layer, values in table[table.arm == arm].groupby("layer")[column]
            if values.notna().to_numpy().any()
        }
        layers, means = list(intervals), [interval.mean for interval in intervals.values()]
        is_sham, colour, label = arm.startswith("sham"), colours[arm], arm_name(arm)
        dashes = "--" if is_sham else "-"
        ax.plot(layers, means, dashes, color=colour, marker="o", markersize=3, label=label)
        if not is_sham and all(interval.low is not None for interval in intervals.values()):
            low = [interval.low for interval in intervals.values()]
            high = [interval.high for interval in intervals.values()]
            ax.fill_between(
                layers, np.array(low, float), np.array(high, float), color=colour, alpha=0.15, linewidth=0
            )
    ax.set(xlabel="layer", xticks=layer_ticks(table.layer + 1))


def plot_separation(table: pd.DataFrame, arms: Sequence[str]) -> np.ndarray:
    """Gap of τ by layer: raw on standard requests (as published), then normalised on two kinds of requests.

    Args:
        table: Columns seed, arm, layer, requests (`standard` or `token-matched`), gap, normalised,
            shuffled_normalised.
        arms: Arms to show.

    Returns:
        Three Axes.
    """
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.6), layout="constrained")
    panels = [("standard", "gap", "raw gap of τ"), ("standard", "normalised", "normalised gap of τ")]
    panels.append(("token-matched", "normalised", "normalised gap of τ"))
    for ax, (requests, column, label) in zip(axes, panels, strict=True):
        part = table[table.requests == requests]
        plot_layer_means(ax, part, arms, column)
        if column == "normalised":
            chance = part.groupby("layer")["shuffled_normalised"].mean()
            ax.plot(chance.index + 1, chance, ":", color="black", linewidth=1, label="shuffled labels")
            ax.set_ylim(-0.25, 2.05)
        ax.set(title=f"{requests} requests", ylabel=label)
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside right center")
    return axes


def plot_null_share(
    table: pd.DataFrame,
    arms: Sequence[str],
    pairs: Mapping[str, tuple[str, str]],
    *,
    matrix: str = "mlp.W_in",
) -> np.ndarray:
    """Share of energy in the left null space of the base's W, by layer.

    Left and middle: of W·a and of the update ΔW·a on unsafe requests; right: log ratio of unsafe to safe, of
    W·a, of arms that have an update.

    Args:
        table: Columns seed, arm, layer, matrix, family, rule, quantity, outcome, share, chance,
            other_seed_share, permuted_share.
        arms: Arms to show.
        pairs: Safe and unsafe family of each arm; those of a sham control are its own.
        matrix: Matrix to show, `mlp.W_in` or, of a gated MLP, `mlp.W_gate`.

    Returns:
        Three Axes.
    """
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.6), layout="constrained")
    exact = table[(table.rule == "exact") & (table.outcome == "all") & (table.matrix == matrix)]
    safe = pd.concat([exact[(exact.arm == arm) & (exact.family == pair[0])] for arm, pair in pairs.items()])
    unsafe = pd.concat([exact[(exact.arm == arm) & (exact.family == pair[1])] for arm, pair in pairs.items()])
    updated = [arm for arm in arms if ((unsafe.arm == arm) & (unsafe.quantity == "delta")).any()]
    for ax, quantity, name in zip(axes, ("pre", "delta"), ("W·a", "ΔW·a"), strict=False):
        part = unsafe[unsafe.quantity == quantity]
        plot_layer_means(ax, part, arms if quantity == "pre" else updated, "share")
        if quantity == "delta":
            _plot_null_controls(ax, part)
        ax.set(title=f"{name}, unsafe requests", ylabel="left null space share")
    index = ["seed", "arm", "layer"]
    unsafe_share, safe_share = (t[t.quantity == "pre"].set_index(index)["share"] for t in (unsafe, safe))
    plot_layer_means(axes[2], (unsafe_share / safe_share).apply(np.log).reset_index(), updated, "share")
    axes[2].axhline(0, color="black", linestyle=":", linewidth=1)
    axes[2].set(title="W·a, unsafe / safe", ylabel="log ratio of shares")
    handles = {}
    for ax in axes[:2]:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles[label] = handle
    figure.legend(list(handles.values()), list(handles), loc="outside right center")
    return axes


def _plot_null_controls(ax: Axes, part: pd.DataFrame) -> None:
    ax.axhline(part.chance.mean(), color="black", linestyle=":", linewidth=1, label="chance")
    for dashes, (column, label) in zip(_CONTROL_DASHES, _CONTROLS.items(), strict=True):
        control = part.groupby("layer")[column].mean()
        ax.plot(control.index + 1, control, linestyle=dashes, color="black", linewidth=1, label=label)
