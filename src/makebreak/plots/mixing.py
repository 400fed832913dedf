"""Figures of fine-tuning attacks in other formats, and of safety data that are mixed in."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from makebreak.plots.style import Colour

_MIXING_PANELS = {
    "not_refused": "unsafe open requests not refused",
    "over_refusal": "safe open requests refused",
    "task_accuracy": "accuracy on the user's task",
}
"""Titles of the columns of `plot_mixing`."""
_COLORBLIND = 10
"""Largest number of lines that the colour-blind palette tells apart."""


def plot_strategies(rows: pd.DataFrame, conditions: Mapping[str, str]) -> Axes:
    """Share of unsafe open requests that is not refused after fine-tuning, by strategy of the user.

    Marks are means over seeds, dots the seeds; one colour per condition of the requests, such as a template.

    Args:
        rows: Columns strategy, seed, condition, not_refused.
        conditions: Name of each condition to show, in order.

    Returns:
        The Axes.
    """
    order = list(dict.fromkeys(rows.strategy))
    _, ax = plt.subplots(figsize=(5.2, 0.3 * len(order) + 1.1), layout="constrained")
    y_of = {strategy: i for i, strategy in enumerate(order)}
    colours, n = sns.color_palette("colorblind"), len(conditions)
    for i, (condition, name) in enumerate(conditions.items()):
        part = rows[rows.condition == condition]
        offset = (i - (n - 1) / 2) * 0.22
        y = part.strategy.map(y_of).to_numpy() + offset
        ax.scatter(part.not_refused, y, s=7, color=colours[i], alpha=0.35, linewidth=0)
        means = part.groupby("strategy", sort=False).not_refused.mean()
        y = np.array([y_of[strategy] for strategy in means.index]) + offset
        ax.scatter(means, y, s=32, marker="|", linewidth=2, color=colours[i], label=name)
    for line in range(len(order) - 1):
        ax.axhline(line + 0.5, color="0.9", linewidth=0.6, zorder=0)
    label = "unsafe open requests not refused"
    ax.set(yticks=range(len(order)), yticklabels=order, xlim=(-0.02, 1.02), xlabel=label)
    ax.invert_yaxis()
    plt.gcf().legend(loc="outside lower center", ncols=n)
    return ax


def plot_mixing(rows: pd.DataFrame) -> np.ndarray:
    """Dose-response curves of safety data that are mixed in: loss of refusal, over-refusal and task accuracy.

    One row of panels per user, one line per mitigation, mean over seeds; thin lines are seeds.

    Args:
        rows: Columns strategy, mitigation, seed, safety_share (0 among them), not_refused (share of unsafe
            open requests), over_refusal (share of safe ones that are refused), task_accuracy.

    Returns:
        Axes, (users, 3).
    """
    users, mitigations = list(dict.fromkeys(rows.strategy)), list(dict.fromkeys(rows.mitigation))
    size = (7.6, 2.1 * len(users) + 0.6)
    figure, axes = plt.subplots(len(users), 3, figsize=size, layout="constrained", sharex=True, squeeze=False)
    many = len(mitigations) > _COLORBLIND
    palette = sns.color_palette("husl", len(mitigations)) if many else sns.color_palette("colorblind")
    colours = dict(zip(mitigations, palette, strict=False))
    x_of = {share: i for i, share in enumerate(sorted(rows.safety_share.unique()))}
    for line, user in zip(axes, users, strict=True):
        for ax, column in zip(line, _MIXING_PANELS, strict=True):
            for name in mitigations:
                part = rows[(rows.strategy == user) & (rows.mitigation == name)].sort_values("safety_share")
                _plot_dose(ax, part.assign(x=part.safety_share.map(x_of)), column, name, colours[name])
            labels = [f"{100 * share:g}" for share in x_of]
            ax.set(ylim=(-0.03, 1.03), xticks=range(len(x_of)), xticklabels=labels)
        line[0].set_ylabel(user)
    for ax, title in zip(axes[0], _MIXING_PANELS.values(), strict=True):
        ax.set_title(title, fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("safety examples, % of all")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return axes


def _plot_dose(ax: Axes, part: pd.DataFrame, column: str, name: str, colour: Colour) -> None:
    for _, seed in part.groupby("seed"):
        ax.plot(seed["x"], seed[column], color=colour, linewidth=0.3, alpha=0.4)
    mean = part.groupby("x")[column].mean()
    ax.plot(mean.index, mean, ".-", color=colour, label=name, linewidth=1.3)


def plot_relearning(rows: pd.DataFrame) -> Axes:
    """Compliance on unsafe requests along harmful fine-tuning, one line per start; thin lines are seeds.

    Args:
        rows: Columns start, seed, step, comply, of one learning rate per start and seed.

    Returns:
        The Axes.
    """
    _, ax = plt.subplots(figsize=(3.8, 2.6), layout="constrained")
    starts = list(dict.fromkeys(rows.start))
    for start, colour in zip(starts, sns.color_palette("colorblind", len(starts)), strict=True):
        part = rows[rows.start == start]
        for _, seed in part.groupby("seed"):
            ax.plot(seed.step, seed.comply, color=colour, linewidth=0.3, alpha=0.4)
        mean = part.groupby("step").comply.mean()
        ax.plot(mean.index, mean, ".-", color=colour, label=start)
    label = "compliance on unsafe"
    ax.set(xlabel="steps of harmful fine-tuning", ylabel=label, ylim=(-0.02, 1.02))
    plt.gcf().legend(loc="outside right upper", title="after")
    return ax
