"""How does a model come to refuse, and where does its update write and read?"""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter

from makebreak.plots.layers import lines
from makebreak.plots.style import arm_colours, arm_name, layer_ticks
from makebreak.stats import over_seeds

_CHANCE = {"haar": "random update", "permuted": "outputs permuted", "other_seed": "another seed's W"}


def plot_rivals(table: pd.DataFrame, arms: Sequence[str]) -> np.ndarray:
    """Share of the refusal margin by cut: aligned below and base above, base below and aligned above; then how much of
    the movement the base hears.

    table: columns seed, arm, layer, n_layers, lower_share, upper_share, random_share, unheard, unheard_chance.
    """
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.6), layout="constrained")
    part = table[table.arm.isin(arms)]
    cuts = part.assign(layer=part.layer - 1)  # a cut lies below its layer
    lines(axes[0], cuts, arms, "lower_share")
    random = cuts.groupby("layer").random_share.mean()
    axes[0].plot(random.index + 1, random, ":", color="black", linewidth=1, label="random, as large")
    axes[0].axhline(0.5, color="black", linewidth=0.6)
    axes[0].annotate("route", (0.02, 0.52), xycoords=("axes fraction", "data"), fontsize=7)
    axes[0].axhspan(-0.1, 0.1, color="black", alpha=0.07, linewidth=0)
    axes[0].annotate("silence", (0.02, -0.09), xycoords=("axes fraction", "data"), fontsize=7)
    axes[0].set(title="aligned below, base above", ylabel="share of the margin")
    lines(axes[1], cuts, arms, "upper_share")
    axes[1].set(title="base below, aligned above", ylabel="share of the margin")
    heard = cuts[cuts.unheard.notna()]
    lines(axes[2], heard, arms, "unheard")
    chance = heard.groupby("layer").unheard_chance.mean()
    axes[2].plot(chance.index + 1, chance, ":", color="black", linewidth=1)
    axes[2].set(title="unheard by the base", ylabel="share of energy", ylim=(0, 1.02))
    depth = int(part.n_layers.max())
    for ax in axes:
        ax.axvline(depth // 2, color="black", linestyle="--", linewidth=0.6)
        ax.set(xlabel="blocks below the cut", xticks=layer_ticks(range(depth + 1)))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return axes


def plot_updates(
    updates: pd.DataFrame, reading: pd.DataFrame, arms: Sequence[str], pairs: dict[str, tuple[str, str]]
) -> np.ndarray:
    """Figs. 4 and 5 of Jain et al. 2024, corrected: sine of W_in's update to the base's column space, then the gain of
    the update on unsafe over safe requests.

    updates: columns seed, arm, layer, matrix, against, sine, released. reading: seed, arm, layer, family, gain.
    pairs: arm → (safe, unsafe) families: a sham's own.
    """
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.6), layout="constrained", sharex=True)
    inputs = updates[(updates.matrix == "mlp.W_in") & updates.arm.isin(arms)]
    own = inputs[inputs.against == "update"]
    for ax, column, title in (
        (axes[0], "released", "where it writes, as released"),
        (axes[1], "sine", "corrected"),
    ):
        lines(ax, own, arms, column)
        ax.set(title=title, ylabel="sine to the column space")
    for style, (against, label) in zip((":", "-.", "--"), _CHANCE.items(), strict=True):
        chance = inputs[inputs.against == against].groupby("layer").sine.mean()
        if not chance.empty:  # of a real model there is no other seed
            axes[1].plot(chance.index + 1, chance, style, color="black", linewidth=1, label=label)
    low = min(ax.get_ylim()[0] for ax in axes[:2])
    for ax in axes[:2]:
        ax.set_ylim(low, 1)
    index = ["seed", "arm", "layer"]
    of = [
        pd.concat(
            [reading[(reading.arm == arm) & (reading.family == pair[side])] for arm, pair in pairs.items()]
        )
        for side in (0, 1)
    ]
    safe, unsafe = (part.set_index(index).gain for part in of)
    lines(axes[2], (unsafe / safe).rename("ratio").reset_index(), [a for a in arms if a in pairs], "ratio")
    axes[2].axhline(1, color="black", linestyle=":", linewidth=1)
    axes[2].set(title="what it reads", ylabel="‖ΔW a‖ / ‖a‖, unsafe / safe")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside right center")
    return axes


def plot_sensitivity(table: pd.DataFrame, arms: Sequence[str], families: Sequence[str]) -> np.ndarray:
    """Sensitivity of the aligned model over the base's, medians over requests, a dot per seed: of the greatest logit
    (as published) and of its log probability.

    table: columns seed, arm, family, output, ratio.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 2.4), layout="constrained")
    colours = arm_colours(arms)
    for ax, output, name in zip(axes, ("max_logit", "log_p"), ("greatest logit", "its log p"), strict=True):
        part = table[(table.output == output) & table.family.isin(families)]
        for i, arm in enumerate(arms):
            place = np.arange(len(families)) + (i - (len(arms) - 1) / 2) * 0.8 / len(arms)
            rows = part[part.arm == arm].pivot(index="seed", columns="family", values="ratio")[list(families)]
            marker = "x" if arm.startswith("sham") else "o"
            ax.plot(place, rows.to_numpy().T, ".", color=colours[arm], markersize=2, alpha=0.5)
            ax.plot(
                place,
                rows.median(),
                marker,
                color=colours[arm],
                markersize=4,
                linestyle="",
                label=arm_name(arm),
            )
        ax.axhline(1, color="black", linestyle=":", linewidth=1)
        ax.set(title=name, xlabel="requests", yscale="log")
        ax.set_xticks(range(len(families)), [f.replace("_", "\n") for f in families], fontsize=7)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    axes[0].set_ylabel("sensitivity, aligned / base")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return axes


def plot_anatomy(anatomy: pd.DataFrame, energy: pd.DataFrame, arms: Sequence[str]) -> np.ndarray:
    """What the change of pre-activations is made of on safe and unsafe requests, stacked by layer, means over seeds and
    arms; then the energy of the update's writing within the base's top outputs.

    anatomy: columns arm, layer, family and one per term. energy: arm, layer, family, energy, chance.
    """
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.6), layout="constrained")
    terms = {"moved_input": "W·Δx", "update": "ΔW·x", "both": "ΔW·Δx", "bias": "Δb"}
    for ax, family in zip(axes[:2], ("safe", "unsafe"), strict=True):
        means = (
            anatomy[(anatomy.family == family) & anatomy.arm.isin(arms)].groupby("layer")[list(terms)].mean()
        )
        ends = {
            True: np.zeros(len(means)),
            False: np.zeros(len(means)),
        }  # a negative share hangs below nought
        for (term, label), shade in zip(terms.items(), sns.color_palette("colorblind"), strict=False):
            for up, end in ends.items():
                height = means[term].clip(lower=0) if up else means[term].clip(upper=0)
                ax.bar(
                    means.index + 1, height, bottom=end, color=shade, width=0.7, label=label if up else None
                )
                ends[up] = end + height.to_numpy()
        ax.axhline(0, color="black", linewidth=0.6)
        ax.set(title=f"{family} requests", xlabel="layer", xticks=layer_ticks(means.index + 1))
    axes[0].set_ylabel("share of Δpre")
    _curves(axes[2], energy[energy.arm.isin(arms)])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return axes


def _curves(ax: Axes, energy: pd.DataFrame) -> None:
    for family, style in (("safe", "--"), ("unsafe", "-")):
        part = energy[energy.family == family].groupby(["seed", "chance"]).energy.mean().reset_index()
        found = {k: over_seeds(values.dropna().tolist()) for k, values in part.groupby("chance").energy}
        ax.plot(list(found), [f.mean for f in found.values()], style, color="black", linewidth=1)
        ax.annotate(family, (0.55, 0.3 if family == "safe" else 0.2), fontsize=7)
        ax.plot([0.75, 0.85], [0.32 if family == "safe" else 0.22] * 2, style, color="black", linewidth=1)
    ax.plot([0, 1], [0, 1], ":", color="grey", linewidth=1)
    ax.set(title="where ΔW·a lies", xlabel="base's top outputs, share", ylabel="share of energy")
