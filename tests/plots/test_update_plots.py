"""Figures of the learnt update show the means, ratios and references of the tables that they are given."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from makebreak.plots import plot_kernel_share, plot_leading_gain, plot_update_projection

ARMS = ["ssft", "sham_ssft"]
PAIRS = {"ssft": ("safe", "unsafe"), "sham_ssft": ("sham_safe", "sham_unsafe")}
FAMILIES = ["safe", "unsafe", "sham_safe", "sham_unsafe"]


def table(columns: list[str], **keys: list[object]) -> pd.DataFrame:
    """One row per combination of keys; positive values from a fixed seed."""
    rows = pd.DataFrame(list(product(*keys.values())), columns=list(keys))
    values = np.random.default_rng(0).uniform(0.1, 0.9, (len(rows), len(columns)))
    return pd.concat([rows, pd.DataFrame(values, columns=columns)], axis=1)


def line(ax: Axes, label: str) -> list[float]:
    [drawn] = [shown for shown in ax.lines if shown.get_label() == label]
    return [float(y) for y in np.asarray(drawn.get_ydata())]


def test_bars_are_shares_of_margin() -> None:
    spaces = ["left null", "column", "random as left null", "random as column"]
    rows = table(
        ["share_of_margin", "share_of_margin_sd"],
        seed=[0, 1],
        arm=ARMS,
        matrices=["mlp.W_in", "all"],
        rule=["exact", "energy90"],
        space=spaces,
    )
    axes = plot_update_projection(rows, ARMS)
    shown = ["left null", "random as left null", "column", "random as column"]
    for ax, matrices, rule in zip(axes, ("mlp.W_in", "all"), ("exact", "energy90"), strict=True):
        part = rows[(rows.matrices == matrices) & (rows.rule == rule) & (rows.arm == "ssft")]
        expected = part.groupby("space").share_of_margin.mean()[shown]
        heights = [bar.get_height() for bar in ax.containers[0]]
        assert heights == pytest.approx(expected.tolist())


def test_leading_gain_is_a_log_ratio() -> None:
    gains = ["gain", "gain_1", "gain_2", "gain_8"]
    rows = table(gains, seed=[0, 1], arm=ARMS, layer=[0, 1], family=FAMILIES, matrix=["mlp.W_in", "x"])
    axes = plot_leading_gain(rows, ARMS, PAIRS)
    own = rows[(rows.matrix == "mlp.W_in") & (rows.arm == "sham_ssft")]
    by_family = own.pivot(index=["layer", "seed"], columns="family", values="gain_1")
    ratios = np.log(by_family.sham_unsafe / by_family.sham_safe).groupby("layer").mean()
    assert line(axes[0], "SSFT sham") == pytest.approx(ratios.tolist())


def test_kernel_share_beside_chance() -> None:
    rows = table(["share", "other_seed_share"], seed=[0, 1], arm=ARMS, layer=[0, 1], family=FAMILIES)
    axes = plot_kernel_share(rows.assign(chance=0.75), ARMS, PAIRS)
    for ax, family in zip(axes, ("safe", "unsafe"), strict=True):
        part = rows[(rows.arm == "ssft") & (rows.family == family)]
        assert line(ax, "SSFT") == pytest.approx(part.groupby("layer").share.mean().tolist())
        assert line(ax, "chance") == [0.75, 0.75]
