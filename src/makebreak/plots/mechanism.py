"""Figures of the mechanism of refusal: stitching, geometry of the update, sensitivity and pre-activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter

from makebreak.mechanism import VERDICT_RULES
from makebreak.plots.layers import plot_layer_means
from makebreak.plots.style import arm_colours, arm_name, layer_ticks
from makebreak.stats import mean_confidence_interval

_REFERENCES = {"haar": "random update", "permuted": "outputs permuted", "other_seed": "another seed's W"}
"""Names of the references that an update is compared with."""
_OUTPUTS = {"max_logit": "greatest logit", "log_p": "its log-probability"}
_TERMS = {
    "input_share": "W·Δx",
    "update_share": "ΔW·x",
    "interaction_share": "ΔW·Δx",
    "bias_share": "Δb",
}
_LEGEND_Y = {"safe": 0.3, "unsafe": 0.2}


def plot_stitching(table: pd.DataFrame, arms: Sequence[str]) -> np.ndarray:
    """Share of the refusal's probability in stitched models by cut, and the effect of the movement.

    Left: tuned layers below the cut, base above; middle: base below, tuned above; right: KL of the base under
    the movement, as a share of KL(base ‖ tuned). Dashed: a cut below half of the blocks.

    Args:
        table: Columns seed, arm, layer, n_layers, lower_share, upper_share, random_share, kl_share.
        arms: Arms to show.

    Returns:
        Three Axes.
    """
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.6), layout="constrained")
    part = table[table.arm.isin(arms)]
    cuts = part.assign(layer=part.layer - 1)  # a cut lies below its layer
    plot_layer_means(axes[0], cuts, arms, "lower_share")
    random = cuts.groupby("layer").random_share.mean()
    axes[0].plot(random.index + 1, random, ":", color="black", linewidth=1, label="random, same norm")
    axes[0].set(title="tuned below, base above", ylabel="share of p(refusal)")
    plot_layer_means(axes[1], cuts, arms, "upper_share")
    axes[1].set(title="base below, tuned above", ylabel="share of p(refusal)")
    for ax in axes[:2]:
        ax.axhline(VERDICT_RULES.min_refusal_share, color="black", linewidth=0.6, label="counts as refusing")
        ax.set_ylim(-0.05, 1.05)
    plot_layer_means(axes[2], cuts, arms, "kl_share")
    axes[2].axhline(VERDICT_RULES.max_silent_share, color="black", linewidth=0.6)
    axes[2].annotate(
        "silence", (0.02, VERDICT_RULES.max_silent_share), xycoords=("axes fraction", "data"), fontsize=7
    )
    axes[2].set(title="effect of the movement", ylabel="share of KL(base ‖ tuned)")
    depth = int(part.n_layers.max())
    for ax in axes:
        ax.axvline(depth // 2, color="black", linestyle="--", linewidth=0.6, label="half of the blocks")
        ax.set(xlabel="blocks below the cut", xticks=layer_ticks(range(depth + 1)))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return axes


def plot_updates(
    updates: pd.DataFrame,
    reading: pd.DataFrame,
    arms: Sequence[str],
    pairs: Mapping[str, tuple[str, str]],
    *,
    matrix: str = "mlp.W_in",
) -> np.ndarray:
    """Geometry of the update of one matrix by layer, after Figs. 4 and 5 of Jain et al. 2024.

    Left: the statistic of the script released with the paper (`geometry.row_sines`), which is of the tuned
    matrix rather than of ΔW; middle: sine of the update to the base's column space; right: read gain
    ‖ΔW a‖ / ‖a‖ on unsafe over safe requests.

    Args:
        updates: Columns seed, arm, layer, matrix, against, sine, row_sine.
        reading: Columns seed, arm, layer, matrix, family, gain.
        arms: Arms to show.
        pairs: Safe and unsafe family of each arm; those of a sham control are its own.
        matrix: Matrix to show, `mlp.W_in` or, of a gated MLP, `mlp.W_gate`.

    Returns:
        Three Axes.
    """
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.6), layout="constrained", sharex=True)
    inputs = updates[(updates.matrix == matrix) & updates.arm.isin(arms)]
    titles = {"row_sine": "released script", "sine": "update ΔW"}
    for ax, (column, title) in zip(axes, titles.items(), strict=False):
        plot_layer_means(ax, inputs[inputs.against == "update"], arms, column)
        ax.set(title=title, ylabel="sine")
    for dashes, (against, label) in zip((":", "-.", "--"), _REFERENCES.items(), strict=True):
        chance = inputs[inputs.against == against].groupby("layer").sine.mean()
        if not chance.empty:  # a real model has no base of another seed
            axes[1].plot(chance.index + 1, chance, dashes, color="black", linewidth=1, label=label)
    axes[0].set_ylim(0, 1)
    axes[1].set_ylim(top=1)
    reading = reading[reading.matrix == matrix]
    safe, unsafe = (_gain(reading, {arm: pair[side] for arm, pair in pairs.items()}) for side in (0, 1))
    ratio = (unsafe / safe).rename("ratio").reset_index()
    plot_layer_means(axes[2], ratio, [arm for arm in arms if arm in pairs], "ratio")
    axes[2].axhline(1, color="black", linestyle=":", linewidth=1)
    axes[2].set(title="read gain", ylabel="gain, unsafe / safe")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside right center")
    return axes


def _gain(reading: pd.DataFrame, families: Mapping[str, str]) -> pd.Series:
    """Read gain of each arm on one family, by seed, arm and layer."""
    parts = [reading[(reading.arm == arm) & (reading.family == family)] for arm, family in families.items()]
    return pd.concat(parts).set_index(["seed", "arm", "layer"]).gain


def plot_sensitivity(table: pd.DataFrame, arms: Sequence[str], families: Sequence[str]) -> np.ndarray:
    """Sensitivity of the aligned model over that of the base; markers are medians over seeds, dots the seeds.

    Args:
        table: Columns seed, arm, family, output, ratio_median. Outputs are the greatest logit (as published)
            and its log-probability.
        arms: Arms to show.
        families: Families of requests to show.

    Returns:
        One Axes per output.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 2.4), layout="constrained")
    colours = arm_colours(arms)
    for ax, (output, title) in zip(axes, _OUTPUTS.items(), strict=True):
        part = table[(table.output == output) & table.family.isin(families)]
        for i, arm in enumerate(arms):
            x = np.arange(len(families)) + (i - (len(arms) - 1) / 2) * 0.8 / len(arms)
            rows = part[part.arm == arm].pivot(index="seed", columns="family", values="ratio_median")
            rows, colour, label = rows[list(families)], colours[arm], arm_name(arm)
            marker = "x" if arm.startswith("sham") else "o"
            ax.plot(x, rows.to_numpy().T, ".", color=colour, markersize=2, alpha=0.5)
            ax.plot(x, rows.median(), marker, color=colour, markersize=4, linestyle="", label=label)
        ax.axhline(1, color="black", linestyle=":", linewidth=1)
        ax.set(title=title, xlabel="requests", yscale="log")
        ax.set_xticks(range(len(families)), [family.replace("_", "\n") for family in families], fontsize=7)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    axes[0].set_ylabel("sensitivity, aligned / base")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return axes


def plot_preactivation_decomposition(
    preactivations: pd.DataFrame, energy: pd.DataFrame, arms: Sequence[str], *, matrix: str = "mlp.W_in"
) -> np.ndarray:
    """Terms of the change of pre-activations by layer, and energy of the update in the base's outputs.

    Left and middle: shares of the terms on safe and on unsafe requests, stacked, means over seeds and arms;
    right: share of the energy of ΔW·a within the leading output directions of the base's W.

    Args:
        preactivations: Columns arm, layer, matrix, family, input_share, update_share, interaction_share,
            bias_share.
        energy: Columns seed, arm, layer, matrix, family, energy, chance.
        arms: Arms to average.
        matrix: Matrix to show, `mlp.W_in` or, of a gated MLP, `mlp.W_gate`.

    Returns:
        Three Axes.
    """
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.6), layout="constrained")
    for ax, family in zip(axes[:2], ("safe", "unsafe"), strict=True):
        part = preactivations[(preactivations.family == family) & preactivations.arm.isin(arms)]
        part = part[part.matrix == matrix]
        _plot_stacked_terms(ax, part.groupby("layer")[list(_TERMS)].mean())
        ax.axhline(0, color="black", linewidth=0.6)
        ax.set(title=f"{family} requests", xlabel="layer", xticks=layer_ticks(part.layer + 1))
    axes[0].set_ylabel("share of the change")
    _plot_energy(axes[2], energy[energy.arm.isin(arms) & (energy.matrix == matrix)])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return axes


def _plot_stacked_terms(ax: Axes, means: pd.DataFrame) -> None:
    """Stacked bars by layer: positive shares upwards from 0, negative ones downwards."""
    top, bottom = np.zeros(len(means)), np.zeros(len(means))
    for (term, label), colour in zip(_TERMS.items(), sns.color_palette("colorblind"), strict=False):
        positive, negative = means[term].clip(lower=0), means[term].clip(upper=0)
        ax.bar(means.index + 1, positive, bottom=top, color=colour, width=0.7, label=label)
        ax.bar(means.index + 1, negative, bottom=bottom, color=colour, width=0.7)
        top, bottom = top + positive.to_numpy(), bottom + negative.to_numpy()


def _plot_energy(ax: Axes, energy: pd.DataFrame) -> None:
    for family, dashes in (("safe", "--"), ("unsafe", "-")):
        rows = energy[(energy.family == family) & energy.energy.notna()]  # a matrix without change has none
        part = rows.groupby(["seed", "chance"]).energy.mean().reset_index()
        x, means = [], []
        for chance, values in part.groupby("chance").energy:
            x.append(chance)
            means.append(mean_confidence_interval(values.tolist()).mean)
        ax.plot(x, means, dashes, color="black", linewidth=1)
        y = _LEGEND_Y[family]
        ax.annotate(family, (0.55, y), fontsize=7)
        ax.plot([0.75, 0.85], [y + 0.02] * 2, dashes, color="black", linewidth=1)
    ax.plot([0, 1], [0, 1], ":", color="grey", linewidth=1)
    ax.set(title="energy of ΔW·a", xlabel="share of the base's output directions", ylabel="share of energy")
