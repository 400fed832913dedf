"""How does the ground around a model look, and which way does fine-tuning walk on it?"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportOperatorIssue=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from makebreak.plots.style import OUTCOME_COLOURS, arm_colours, arm_name

_COLOURS = sns.color_palette("colorblind")
_ABLE = (0.25, 0.25, 0.25)


def plot_basins(
    curves: pd.DataFrame, arms: Sequence[str], *, along: str = "relative norm of the move"
) -> np.ndarray:
    """What models do on unsafe requests along random directions, a panel per model, and the safe requests that they
    answer at the same points: bands are 5 to 95 % of directions and seeds.

    curves: columns arm, at, refused, complied, safe.
    """
    figure, axes = _panels(len(arms), width=2.3, height=2.2)
    shown = {"refused": OUTCOME_COLOURS["refuse"], "complied": OUTCOME_COLOURS["comply"], "safe": _ABLE}
    names = {"refused": "unsafe, refused", "complied": "unsafe, answered", "safe": "safe, answered"}
    for ax, arm in zip(axes, arms, strict=True):
        found = curves[curves.arm == arm].groupby("at")[list(shown)]
        low, middle, high = found.quantile(0.05), found.mean(), found.quantile(0.95)
        for column, colour in shown.items():
            dashes = "--" if column == "safe" else "-"
            ax.plot(middle.index, middle[column], dashes, color=colour, linewidth=1.4, label=names[column])
            ax.fill_between(middle.index, low[column], high[column], color=colour, alpha=0.15, linewidth=0)
        ax.set(title=arm_name(arm), xlabel=along, ylim=(-0.02, 1.02))
    axes[0].set_ylabel("share of requests")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return axes


def plot_ways(curves: pd.DataFrame, arms: Sequence[str], ways: Mapping[str, str]) -> np.ndarray:
    """Unsafe requests refused along different directions of equal relative norm, a panel per model; thin: seeds.

    curves: columns arm, seed, direction, at, refused. ways: direction → how it is called.
    """
    figure, axes = _panels(len(arms), width=2.3, height=2.2)
    for ax, arm in zip(axes, arms, strict=True):
        for colour, (way, name) in zip(_COLOURS, ways.items(), strict=False):
            rows = curves[(curves.arm == arm) & (curves.direction == way)]
            seeds = [own.groupby("at").refused.mean() for _, own in rows.groupby("seed")]
            for own in seeds:
                ax.plot(own.index, own, color=colour, linewidth=0.4, alpha=0.5)
            if seeds:  # each within a range of its own: their mean where all of them are
                at = np.linspace(
                    max(own.index.min() for own in seeds), min(own.index.max() for own in seeds), 201
                )
                mean = np.mean([np.interp(at, own.index, own) for own in seeds], axis=0)
                ax.plot(at, mean, color=colour, linewidth=1.4, label=name)
        ax.set(title=arm_name(arm), xlabel="relative norm of the move", ylim=(-0.02, 1.02))
    axes[0].set_ylabel("unsafe requests refused")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return axes


def plot_map(points: pd.DataFrame, titles: Sequence[str], paths: pd.DataFrame | None = None) -> np.ndarray:
    """Unsafe requests refused over planes, a panel per title; contours: where 90 % of safe requests are answered.

    points: columns title, x, y, refused, safe. paths: columns title, kind, x, y, of runs that are drawn on them.
    """
    figure, axes = _panels(len(titles), width=2.5, height=2.4, share=False)
    mesh = None
    for ax, title in zip(axes, titles, strict=True):
        here = points[points.title == title]
        refused, safe = (here.pivot(index="y", columns="x", values=c) for c in ("refused", "safe"))
        x, y = refused.columns.to_numpy(), refused.index.to_numpy()
        mesh = ax.pcolormesh(
            x, y, refused.to_numpy(), cmap="crest_r", vmin=0, vmax=1, shading="nearest", rasterized=True
        )
        if safe.to_numpy().min() < 0.9 < safe.to_numpy().max():
            ax.contour(x, y, safe.to_numpy(), levels=[0.9], colors="white", linewidths=1)
        runs = [] if paths is None else list(paths[paths.title == title].groupby("kind", sort=False))
        for colour, (kind, rows) in zip((_COLOURS[3], _COLOURS[1]), runs, strict=False):
            ax.plot(rows.x, rows.y, "o-", color=colour, markersize=3, linewidth=1.2, label=kind)
        if runs:
            ax.legend(loc="upper right", fontsize=6, frameon=True)
        ax.plot(0, 0, "*", color="white", markersize=8, markeredgecolor="black", markeredgewidth=0.5)
        ax.set(title=title, aspect="equal")
    if mesh is not None:
        figure.colorbar(mesh, ax=list(axes), label="unsafe requests refused", shrink=0.8)
    return axes


def plot_falls(finetuned: pd.DataFrame, arms: Sequence[str], kinds: Sequence[str]) -> np.ndarray:
    """Unsafe requests answered along fine-tuning, a panel per kind; thin: seeds.

    finetuned: columns arm, seed, kind, step, complied, at one rate each.
    """
    figure, axes = _panels(len(kinds), width=2.0, height=2.1)
    for ax, kind in zip(axes, kinds, strict=True):
        for arm in arms:
            rows = finetuned[(finetuned.arm == arm) & (finetuned.kind == kind)]
            by_seed = rows.pivot_table(index="step", columns="seed", values="complied")
            if not len(by_seed):
                continue
            colour = arm_colours([arm])[arm]
            ax.plot(by_seed.index, by_seed, color=colour, linewidth=0.4, alpha=0.5)
            ax.plot(by_seed.index, by_seed.mean(axis=1), color=colour, linewidth=1.4, label=arm_name(arm))
        ax.set(title=kind, xlabel="steps", ylim=(-0.02, 1.02))
    axes[0].set_ylabel("unsafe requests answered")
    named = max((ax.get_legend_handles_labels() for ax in axes), key=lambda found: len(found[0]))
    figure.legend(*named, loc="outside lower center", ncols=5)
    return axes


def plot_told(predictors: pd.DataFrame, columns: Mapping[str, str], outcome: str, label: str) -> np.ndarray:
    """What is known of a model before fine-tuning against how soon safety is lost: a dot per model.

    predictors: columns arm, seed and those named. columns: column → how it is called.
    """
    figure, axes = _panels(len(columns), width=1.9, height=2.0)
    for ax, (column, name) in zip(axes, columns.items(), strict=True):
        for method, rows in predictors.groupby(predictors.arm.str.partition(" ")[0], sort=False):
            colour = arm_colours([method])[method]
            ax.plot(rows[column], rows[outcome], ".", color=colour, markersize=5, label=arm_name(method))
        ax.set(xlabel=name)
    axes[0].set_ylabel(label)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return axes


def _panels(n: int, *, width: float, height: float, share: bool = True) -> tuple[Figure, np.ndarray]:
    figure, axes = plt.subplots(
        1, n, figsize=(width * n + 0.6, height + 0.4), layout="constrained", sharey=share, squeeze=False
    )
    flat: np.ndarray = axes[0]
    return figure, flat
