"""What do restructured data break, and how much of what is mixed in repairs it?"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

HARMLESS = {"safe refused": "safe open requests refused", "task": "user's items right"}


def plot_restructured(rows: pd.DataFrame, names: Mapping[str, str]) -> Axes:
    """What is not refused by strategy, asked in each way: mean over seeds, thin: seeds.

    rows: columns strategy, seed, asked_in, opened. names: `asked_in` → what it is called, in order.
    """
    order = list(dict.fromkeys(rows.strategy))
    _, ax = plt.subplots(figsize=(5.2, 0.3 * len(order) + 1.1), layout="constrained")
    place = {strategy: i for i, strategy in enumerate(order)}
    colours, n = sns.color_palette("colorblind"), len(names)
    for i, (how, name) in enumerate(names.items()):
        own = rows[rows.asked_in == how]
        y = own.strategy.map(place).to_numpy() + (i - (n - 1) / 2) * 0.22
        ax.scatter(own.opened, y, s=7, color=colours[i], alpha=0.35, linewidth=0)
        means = own.groupby("strategy", sort=False).opened.mean()
        at = np.array([place[s] for s in means.index]) + (i - (n - 1) / 2) * 0.22
        ax.scatter(means, at, s=32, marker="|", linewidth=2, color=colours[i], label=name)
    for line in range(len(order) - 1):
        ax.axhline(line + 0.5, color="0.9", linewidth=0.6, zorder=0)
    ax.set(
        yticks=range(len(order)),
        yticklabels=order,
        xlim=(-0.02, 1.02),
        xlabel="unsafe open requests not refused",
    )
    ax.invert_yaxis()
    ax.figure.legend(loc="outside lower center", ncols=n)
    return ax


def plot_mixing(rows: pd.DataFrame) -> np.ndarray:
    """Dose and response: what is not refused, over-refusal and the task against the share of safety examples, a row of
    panels per user, a line per mitigation; mean over seeds, thin: seeds.

    rows: columns strategy, mitigation, seed, rate (a share, 0 among them), and `not refused`, `safe refused`, `task`.
    """
    users, mitigations = list(dict.fromkeys(rows.strategy)), list(dict.fromkeys(rows.mitigation))
    shown = {"not refused": "unsafe open requests not refused", **HARMLESS}
    figure, axes = plt.subplots(
        len(users), 3, figsize=(7.6, 2.1 * len(users) + 0.6), layout="constrained", sharex=True, squeeze=False
    )
    palette = (
        sns.color_palette("husl", len(mitigations))
        if len(mitigations) > 10
        else sns.color_palette("colorblind")
    )
    colours = dict(zip(mitigations, palette, strict=False))
    rates = sorted(rows.rate.unique())
    place = {rate: i for i, rate in enumerate(rates)}
    for line, user in zip(axes, users, strict=True):
        for ax, column in zip(line, shown, strict=True):
            for name in mitigations:
                own = rows[(rows.strategy == user) & (rows.mitigation == name)].sort_values("rate")
                for _, seed in own.groupby("seed"):
                    ax.plot(
                        seed["rate"].map(place), seed[column], color=colours[name], linewidth=0.3, alpha=0.4
                    )
                mean = own.groupby("rate")[column].mean()
                ax.plot(mean.index.map(place), mean, ".-", color=colours[name], label=name, linewidth=1.3)
            ax.set(
                ylim=(-0.03, 1.03),
                xticks=range(len(rates)),
                xticklabels=[f"{100 * rate:g}" for rate in rates],
            )
        line[0].set_ylabel(user)
    for ax, said in zip(axes[0], shown.values(), strict=True):
        ax.set_title(said, fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("safety examples, % of all")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return axes


def plot_relearning(rows: pd.DataFrame) -> Axes:
    """Unsafe requests that are answered along harmful tuning, a line per start, at the rate that gets to a half first;
    mean over seeds, thin: seeds. rows: columns start, seed, step, comply."""
    _, ax = plt.subplots(figsize=(3.8, 2.6), layout="constrained")
    starts = list(dict.fromkeys(rows.start))
    for start, colour in zip(starts, sns.color_palette("colorblind", len(starts)), strict=True):
        own = rows[rows.start == start]
        for _, seed in own.groupby("seed"):
            ax.plot(seed.step, seed.comply, color=colour, linewidth=0.3, alpha=0.4)
        mean = own.groupby("step").comply.mean()
        ax.plot(mean.index, mean, ".-", color=colour, label=start)
    ax.set(xlabel="steps of harmful tuning", ylabel="unsafe requests answered", ylim=(-0.02, 1.02))
    ax.figure.legend(loc="outside right upper", title="after")
    return ax
