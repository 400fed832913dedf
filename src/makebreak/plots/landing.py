"""How often do attacks succeed, where do they land, and what undoes them?"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportOperatorIssue=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from makebreak.plots.style import arm_colours, arm_name, layer_ticks

_COLOURS = sns.color_palette("colorblind")
_SHIFTS = {
    "difference": ("difference of means", _COLOURS[0], "o-"),
    "shuffled": ("shuffled labels", _COLOURS[7], "s:"),
    "other_label": ("another label", _COLOURS[1], "^:"),
    "covariance": ("as states vary", _COLOURS[4], "v:"),
    "random": ("random", "black", ".:"),
}


def plot_success(table: pd.DataFrame, arms: Sequence[str], attacks: Mapping[str, str]) -> np.ndarray:
    """Share of attacked requests that are answered as instructed, a panel per world; bars are means over seeds, dots
    the seeds, open bars behind them what is not refused.

    table: columns world, seed, arm, attack, complied, refused. attacks: which, in this order, and how they are called.
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
            place = np.arange(len(attacks)) + (i - (len(shown) - 1) / 2) * 0.8 / len(shown)
            own = rows[rows.arm == arm].assign(passed=lambda r: 1 - r.refused)
            by_seed = {c: own.pivot(index="seed", columns="attack", values=c) for c in ("complied", "passed")}
            by_seed = {c: found.reindex(columns=list(attacks)) for c, found in by_seed.items()}
            colour, height = arm_colours([arm])[arm], 0.8 / len(shown)
            ax.barh(
                place,
                by_seed["passed"].mean(),
                height=height,
                facecolor="none",
                edgecolor=colour,
                linewidth=0.5,
            )
            ax.barh(place, by_seed["complied"].mean(), height=height, color=colour, label=arm_name(arm))
            ax.plot(by_seed["complied"].to_numpy().T, place, ".", color="black", markersize=1.5)
        ax.set_yticks(range(len(attacks)), list(attacks.values()))
        ax.set(title=f"world {world}", xlabel="share of attacked requests", xlim=(0, 1.02))
    axes[0, 0].invert_yaxis()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
    return axes


def plot_landing(
    table: pd.DataFrame, arms: Sequence[str], groups: Mapping[str, tuple[Sequence[str], str]]
) -> np.ndarray:
    """Mean τ of each group of requests by layer, in units of the distance of the means (Jain et al. 2024, Fig. 7): a
    row per world, a panel per arm; thin lines are seeds.

    table: columns world, seed, arm, attack, layer, outcome, n, normalised. groups: how a line is called → the attacks
    it takes together, and the outcome of the requests in it.
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
            for (name, (attacks, outcome)), style in zip(groups.items(), _lines(len(groups)), strict=True):
                _one_line(ax, rows[rows.attack.isin(attacks) & (rows.outcome == outcome)], name, style)
            ax.axhline(0, color="black", linewidth=0.5)
            ax.set(title=f"{arm_name(arm)}, {world}", xlabel="layer", xticks=layer_ticks(rows.layer + 1))
        line[0].set_ylabel("τ / distance of means")
    named = max((ax.get_legend_handles_labels() for ax in axes.flat), key=lambda found: len(found[0]))
    figure.legend(*named, loc="outside right center")
    return axes


def _lines(n: int) -> list[tuple[tuple[float, ...], str]]:
    order = (2, 3, 0, 0, 1, 4, 5, 6)
    dashes = ("-", "-", "-", ":", "-", "-", "-", "-")
    return [(tuple(_COLOURS[order[i % 8]]), dashes[i % 8]) for i in range(n)]


def _one_line(ax: Axes, rows: pd.DataFrame, name: str, style: tuple[tuple[float, ...], str]) -> None:
    if not len(rows):
        return
    weighted = rows.assign(sum=rows.normalised * rows.n).groupby(["seed", "layer"])[["sum", "n"]].sum()
    by_seed = (weighted["sum"] / weighted.n).unstack("seed")
    ax.plot(by_seed.index + 1, by_seed, style[1], color=style[0], linewidth=0.4, alpha=0.5)
    ax.plot(by_seed.index + 1, by_seed.mean(axis=1), style[1], color=style[0], linewidth=1.6, label=name)


def plot_causes(cause: pd.DataFrame, monitors: pd.DataFrame, attacks: Mapping[str, str]) -> np.ndarray:
    """Left: successes undone by shifts of the state against the clean safe answers they cost; middle: unsafe requests
    answered under the opposite shift. Lines go from small to large scale, means over seeds and arms. Right: what a
    probe sees of each attack, dots are seeds and arms, the bar their mean, dotted the false alarms.

    cause: one layer, columns kind, scale, undone, gained, safe_before, safe_complied. monitors: one kind and layer,
    columns attack, alarms.
    """
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.0), layout="constrained", width_ratios=(1, 1, 0.9))
    lost = cause.assign(lost=cause.safe_before - cause.safe_complied)
    for ax, column, label in (
        (axes[0], "undone", "successes undone"),
        (axes[1], "gained", "unsafe requests answered"),
    ):
        for kind, (name, colour, marker) in _SHIFTS.items():
            rows = lost[lost.kind == kind].groupby("scale")[["lost", column]].mean()
            ax.plot(rows.lost, rows[column], marker, color=colour, markersize=3, linewidth=1, label=name)
        ax.set(xlabel="safe answers lost", ylabel=label, xlim=(-0.02, None), ylim=(-0.02, 1.02))
    mirrored = lost[lost.kind == "mirrored"][["lost", "undone"]].mean()
    axes[0].plot(mirrored.lost, mirrored.undone, "*", color="C3", markersize=8, label="to the mirror image")
    seen = monitors.set_index("attack").alarms
    for i, attack in enumerate(attacks):
        values = seen.loc[[attack]] if attack in seen.index else seen.iloc[:0]
        axes[2].barh(i, values.mean() if len(values) else 0.0, color=(0.7, 0.7, 0.7))
        axes[2].plot(values, np.full(len(values), i), ".", color="black", markersize=2)
    axes[2].axvline(0.01, linestyle=":", color="black", linewidth=1)
    axes[2].set_yticks(range(len(attacks)), list(attacks.values()))
    axes[2].invert_yaxis()
    axes[2].set(xlabel="share with an alarm", xlim=(0, 1))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return axes
