"""Figures of attacks in synthetic worlds: success rates, class-mean projection, steering and monitors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from makebreak.plots.style import Colour, arm_colours, arm_name, layer_ticks

_COLOURS = sns.color_palette("colorblind")
_VECTORS = {
    "difference": ("difference of means", _COLOURS[0], "o-"),
    "shuffled": ("shuffled labels", _COLOURS[7], "s:"),
    "other_label": ("another label", _COLOURS[1], "^:"),
    "covariance": ("covariance of states", _COLOURS[4], "v:"),
    "random": ("random", "black", ".:"),
}
"""Name, colour and line of each kind of steering vector."""
_NOMINAL_RATE = 0.01
"""False positive rate of the monitors, drawn as a dotted line."""
_LINE_COLOURS = (2, 3, 0, 0, 1, 4, 5, 6)
_LINE_DASHES = ("-", "-", "-", ":", "-", "-", "-", "-")


class _Line(NamedTuple):
    """Look of one group of requests."""

    colour: Colour
    dashes: str


def plot_attack_success(table: pd.DataFrame, arms: Sequence[str], attacks: Mapping[str, str]) -> np.ndarray:
    """Attack success rates, one panel per world.

    Filled bars are the share of attacked requests that are complied with, open bars the share that is not
    refused, both means over seeds; dots are seeds.

    Args:
        table: Columns world, seed, arm, attack, compliance_rate, refusal_rate.
        arms: Arms to show.
        attacks: Name of each attack to show, in this order.

    Returns:
        Axes, (1, worlds).
    """
    worlds = list(dict.fromkeys(table.world))
    size = (3.9 * len(worlds) + 1.2, 0.24 * len(attacks) + 0.9)
    figure, axes = plt.subplots(
        1, len(worlds), figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    for ax, world in zip(axes[0], worlds, strict=True):
        rows = table[table.world == world]
        shown = [arm for arm in arms if arm in set(rows.arm)]
        for i, arm in enumerate(shown):
            y = np.arange(len(attacks)) + (i - (len(shown) - 1) / 2) * 0.8 / len(shown)
            part = rows[rows.arm == arm]
            complied = _by_seed(part, "compliance_rate", list(attacks))
            bypassed = 1 - _by_seed(part, "refusal_rate", list(attacks))
            colour, height = arm_colours([arm])[arm], 0.8 / len(shown)
            outline = {"facecolor": "none", "edgecolor": colour, "linewidth": 0.5}
            ax.barh(y, bypassed.mean(), height=height, **outline)
            ax.barh(y, complied.mean(), height=height, color=colour, label=arm_name(arm))
            ax.plot(complied.to_numpy().T, y, ".", color="black", markersize=1.5)
        ax.set_yticks(range(len(attacks)), list(attacks.values()))
        ax.set(title=f"world {world}", xlabel="attack success rate", xlim=(0, 1.02))
    axes[0, 0].invert_yaxis()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
    return axes


def _by_seed(rows: pd.DataFrame, column: str, attacks: list[str]) -> pd.DataFrame:
    """A column as a matrix of seeds × attacks."""
    return rows.pivot(index="seed", columns="attack", values=column).reindex(columns=attacks)


def plot_projection(
    table: pd.DataFrame, arms: Sequence[str], groups: Mapping[str, tuple[Sequence[str], str]]
) -> np.ndarray:
    """Mean τ of each group of requests by layer, in units of the distance between the class means.

    After Fig. 7 of Jain et al. 2024: one row per world, one panel per arm; thin lines are seeds.

    Args:
        table: Columns world, seed, arm, attack, layer, outcome, n, tau_normalised.
        arms: Arms to show.
        groups: By the name of a group, the attacks that it pools and the outcome of its requests.

    Returns:
        Axes, (worlds, arms).
    """
    worlds = list(dict.fromkeys(table.world))
    size = (2.2 * len(arms) + 1.9, 2.0 * len(worlds) + 0.2)
    figure, axes = plt.subplots(
        len(worlds), len(arms), figsize=size, layout="constrained", sharex=True, sharey="row", squeeze=False
    )
    for line, world in zip(axes, worlds, strict=True):
        for ax, arm in zip(line, arms, strict=True):
            rows = table[(table.world == world) & (table.arm == arm) & (table.n > 0)]
            if not len(rows):
                ax.set_axis_off()
                continue
            for (name, (attacks, outcome)), look in zip(groups.items(), _lines(len(groups)), strict=True):
                _plot_group(ax, rows[rows.attack.isin(attacks) & (rows.outcome == outcome)], name, look)
            ax.axhline(0, color="black", linewidth=0.5)
            ax.set(title=f"{arm_name(arm)}, {world}", xlabel="layer", xticks=layer_ticks(rows.layer + 1))
        line[0].set_ylabel("τ / distance of class means")
    legends = [ax.get_legend_handles_labels() for ax in axes.flat]
    figure.legend(*max(legends, key=lambda legend: len(legend[0])), loc="outside right center")
    return axes


def _lines(n: int) -> list[_Line]:
    colours = [tuple(_COLOURS[_LINE_COLOURS[i % len(_LINE_COLOURS)]]) for i in range(n)]
    return [_Line(colour, _LINE_DASHES[i % len(_LINE_DASHES)]) for i, colour in enumerate(colours)]


def _plot_group(ax: Axes, rows: pd.DataFrame, name: str, look: _Line) -> None:
    if not len(rows):
        return
    sums = rows.assign(sum=rows.tau_normalised * rows.n).groupby(["seed", "layer"])[["sum", "n"]].sum()
    by_seed = (sums["sum"] / sums.n).unstack("seed")
    layers, mean = by_seed.index + 1, by_seed.mean(axis=1)
    ax.plot(layers, by_seed, look.dashes, color=look.colour, linewidth=0.4, alpha=0.5)
    ax.plot(layers, mean, look.dashes, color=look.colour, linewidth=1.6, label=name)


def plot_steering(steering: pd.DataFrame, monitors: pd.DataFrame, attacks: Mapping[str, str]) -> np.ndarray:
    """Steering of attacked requests against its cost on safe ones, and detection of attacks by a monitor.

    Left: share of successes that a vector reverses; middle: share of unsafe requests that are complied with
    under the opposite vector; both against the compliance on safe requests that is lost. Lines go from small
    to large scale, means over seeds and arms. Right: detection rates, dots are seeds and arms, bars their
    mean; dotted: the false positive rate.

    Args:
        steering: Rows of one layer, columns kind, scale, reversal_rate, induction_rate,
            safe_compliance_baseline, safe_compliance_rate.
        monitors: Rows of one kind and layer, columns attack, detection_rate.
        attacks: Name of each attack to show.

    Returns:
        Three Axes.
    """
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.0), layout="constrained", width_ratios=(1, 1, 0.9))
    cost = steering.assign(cost=steering.safe_compliance_baseline - steering.safe_compliance_rate)
    panels = {"reversal_rate": "successes reversed", "induction_rate": "unsafe complied with"}
    for ax, (column, label) in zip(axes, panels.items(), strict=False):
        for kind, (name, colour, marker) in _VECTORS.items():
            rows = cost[cost.kind == kind].groupby("scale")[["cost", column]].mean()
            ax.plot(rows.cost, rows[column], marker, color=colour, markersize=3, linewidth=1, label=name)
        ax.set(xlabel="compliance on safe lost", ylabel=label, xlim=(-0.02, None), ylim=(-0.02, 1.02))
    _plot_detection(axes[2], monitors, attacks)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return axes


def plot_interchange(interchange: pd.DataFrame) -> np.ndarray:
    """Successful attacks whose projection onto the class means is that of another request.

    Left: share that fails; right: share that is refused. Bars are means over seeds, dots are seeds.

    Args:
        interchange: Rows of one layer of each model, columns arm, donor, failure_rate, refusal_rate.

    Returns:
        Two Axes.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.0), layout="constrained")
    panels = {"failure_rate": "share that fails", "refusal_rate": "share that is refused"}
    for ax, (column, label) in zip(axes, panels.items(), strict=True):
        values = interchange.assign(**{column: interchange[column].astype(float)})
        groups = {"x": "arm", "y": column, "hue": "donor", "ax": ax}
        sns.barplot(values, **groups, errorbar=None, palette="colorblind", legend=ax is axes[0])
        sns.stripplot(values, **groups, dodge=True, palette="dark:black", size=3, legend=False)
        ax.set(xlabel="", ylabel=label, ylim=(0, 1.02))
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].get_legend().remove()
    figure.legend(handles, labels, title="donor", loc="outside right center")
    return axes


def _plot_detection(ax: Axes, monitors: pd.DataFrame, attacks: Mapping[str, str]) -> None:
    for i, attack in enumerate(attacks):
        values = monitors[monitors.attack == attack].detection_rate
        ax.barh(i, values.mean() if len(values) else 0.0, color=(0.7, 0.7, 0.7))
        ax.plot(values, np.full(len(values), i), ".", color="black", markersize=2)
    ax.axvline(_NOMINAL_RATE, linestyle=":", color="black", linewidth=1)
    ax.set_yticks(range(len(attacks)), list(attacks.values()))
    ax.invert_yaxis()
    ax.set(xlabel="detection rate", xlim=(0, 1))
