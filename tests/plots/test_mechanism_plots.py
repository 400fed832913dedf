"""Do the figures of the mechanism show the numbers of their tables?"""

from __future__ import annotations

from itertools import product

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from makebreak.plots import (
    plot_anatomy,
    plot_apart,
    plot_equal,
    plot_parts,
    plot_rivals,
    plot_sensitivity,
    plot_updates,
)
from makebreak.stats import over_seeds
from tests.plots.test_plots import closed, line  # noqa: F401

ARMS = ["ssft", "sham_ssft"]
PAIRS = {"ssft": ("safe", "unsafe"), "sham_ssft": ("sham_safe", "sham_unsafe")}
RNG = np.random.default_rng(0)


def table(columns: list[str], **keys: list[object]) -> pd.DataFrame:
    rows = [dict(zip(keys, values, strict=True)) for values in product(*keys.values())]
    return pd.DataFrame([row | {c: RNG.uniform(0.1, 0.9) for c in columns} for row in rows]).sample(frac=1)


def at(rows: pd.DataFrame, column: str, **chosen: object) -> float:
    for name, value in chosen.items():
        rows = rows[rows[name] == value]
    return float(rows[column].mean())


def test_rivals_are_drawn_by_cut_with_their_control() -> None:
    columns = ["lower_share", "upper_share", "random_share", "unheard", "unheard_chance"]
    rows = table(columns, seed=[0, 1, 2], arm=[*ARMS, "npo"], layer=[0, 1, 2, 3], n_layers=[3])
    rows.loc[rows.layer == 3, ["unheard", "unheard_chance"]] = (
        np.nan
    )  # above the last block nothing is left to hear
    axes = plot_rivals(rows, ARMS)
    for arm, name in zip(ARMS, ("SSFT", "SSFT sham"), strict=True):
        for ax, column, cuts in zip(axes, ("lower_share", "upper_share", "unheard"), (4, 4, 3), strict=True):
            x, y = line(ax, name)
            assert x == list(range(cuts))
            assert y == pytest.approx([at(rows, column, arm=arm, layer=cut) for cut in range(cuts)])
    shown = rows[rows.arm.isin(ARMS)]
    assert line(axes[0], "random, as large")[1] == pytest.approx(
        [at(shown, "random_share", layer=i) for i in range(4)]
    )


def test_updates_stand_in_their_ladder_of_chance() -> None:
    ladder = ["update", "haar", "permuted", "other_seed"]
    updates = table(
        ["sine", "released"],
        seed=[0, 1],
        arm=ARMS,
        layer=[0, 1],
        matrix=["mlp.W_in", "mlp.W_out"],
        against=ladder,
    )
    families = ["safe", "unsafe", "sham_safe", "sham_unsafe"]
    reading = table(["gain"], seed=[0, 1], arm=ARMS, layer=[0, 1], family=families)
    axes = plot_updates(updates, reading, ARMS, PAIRS)
    inputs = updates[updates.matrix == "mlp.W_in"]
    for ax, column in zip(axes, ("released", "sine"), strict=False):
        expected = [at(inputs, column, arm="ssft", layer=i, against="update") for i in (0, 1)]
        assert line(ax, "SSFT")[1] == pytest.approx(expected)
    named = {"haar": "random update", "permuted": "outputs permuted", "other_seed": "another seed's W"}
    for against, label in named.items():
        assert line(axes[1], label)[1] == pytest.approx(
            [at(inputs, "sine", layer=i, against=against) for i in (0, 1)]
        )
    for arm, name in zip(ARMS, ("SSFT", "SSFT sham"), strict=True):
        safe, unsafe = PAIRS[arm]
        for i, ratio in enumerate(line(axes[2], name)[1]):
            gains = [
                [at(reading, "gain", arm=arm, layer=i, seed=s, family=f) for s in (0, 1)]
                for f in (safe, unsafe)
            ]
            assert ratio == pytest.approx(np.mean(np.divide(gains[1], gains[0])))


def test_sensitivity_is_a_median_and_a_dot_per_seed() -> None:
    rows = table(
        ["ratio"], seed=[0, 1, 2], arm=ARMS, family=["safe", "context_unsafe"], output=["max_logit", "log_p"]
    )
    axes = plot_sensitivity(rows, ARMS, ["safe", "context_unsafe"])
    part = rows[(rows.output == "log_p") & (rows.arm == "ssft")]
    drawn = next(found for found in axes[1].lines if found.get_label() == "SSFT")
    expected = [float(part[part.family == f].ratio.median()) for f in ("safe", "context_unsafe")]
    assert list(drawn.get_ydata()) == pytest.approx(expected)
    dots = [y for found in axes[1].lines if found.get_marker() == "." for y in found.get_ydata()]
    assert sorted(dots) == pytest.approx(sorted(rows[rows.output == "log_p"].ratio))


def test_parts_are_bars_of_means_in_the_order_of_the_network() -> None:
    rows = table(
        ["alone", "beside", "shapley"], seed=[0, 1], arm=ARMS, part=["embed", "blocks.0.attn", "unembed"]
    )
    rows = rows.sort_values("part", key=lambda p: p.map({"embed": 0, "blocks.0.attn": 1, "unembed": 2}))
    axes = plot_parts(rows, ARMS)
    assert [t.get_text() for t in axes[0].get_yticklabels()] == ["embed", "0.attn", "unembed"]
    for ax, column in zip(axes, ("alone", "beside", "shapley"), strict=True):
        for bars, arm in zip(ax.containers, ARMS, strict=True):
            expected = [at(rows, column, arm=arm, part=p) for p in ("embed", "blocks.0.attn", "unembed")]
            assert [bar.get_width() for bar in bars] == pytest.approx(expected)


def test_anatomy_stacks_to_the_sum_and_hangs_what_is_negative() -> None:
    anatomy = table(
        ["moved_input", "update", "both", "bias"], arm=ARMS, layer=[0, 1], family=["safe", "unsafe"]
    )
    anatomy["both"] = -anatomy.both
    energy = table(["energy"], seed=[0, 1], arm=ARMS, layer=[0], family=["safe", "unsafe"], chance=[0.5, 1.0])
    axes = plot_anatomy(anatomy, energy, ["ssft"])
    rows = anatomy[(anatomy.arm == "ssft") & (anatomy.family == "unsafe")]
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in axes[1].containers}
    assert heights["W·Δx"] == pytest.approx([at(rows, "moved_input", layer=i) for i in (0, 1)])
    low = min(bar.get_y() + bar.get_height() for bars in axes[1].containers for bar in bars)
    assert low == pytest.approx(min(at(rows, "both", layer=i) for i in (0, 1)))
    curve = next(found for found in axes[2].lines if list(found.get_xdata()) == [0.5, 1.0])
    expected = [at(energy, "energy", arm="ssft", family="safe", chance=c) for c in (0.5, 1.0)]
    assert list(curve.get_ydata()) == pytest.approx(expected)
    plt.close("all")


def test_labels_stand_beside_their_base_and_shuffled_ones_and_shifts_are_shares_of_the_margin() -> None:
    columns = ["unsafe_auroc", "refused_auroc", "shuffled_unsafe_high", "shuffled_refused_high"]
    keys = {"network": ["aligned", "base"], "position": ["text", "eot"], "layer": [0, 1]}
    labels = table(columns, seed=[0, 1], arm=["ssft", "dpo", "npo"], **keys)
    shifts = table(["unsafe_margin"], seed=[0, 1], arm=["ssft", "dpo"], kind=["difference", "random"])
    axes = plot_apart(labels, shifts.assign(unsafe_before=2.0), ["ssft", "dpo"])
    shown = labels[labels.arm != "npo"]
    for ax, label, position in zip(axes, ("unsafe", "refused"), ("text", "eot"), strict=False):
        where = {"position": position, "network": "aligned"}
        own = [at(labels, f"{label}_auroc", arm="dpo", layer=i, **where) for i in (0, 1)]
        assert line(ax, "DPO + NLL")[1] == pytest.approx(own)
        chance = [at(shown, f"shuffled_{label}_high", layer=i, **where) for i in (0, 1)]
        assert line(ax, "shuffled, 95th percentile")[1] == pytest.approx(chance)
        base = [at(shown, f"{label}_auroc", layer=i, position=position, network="base") for i in (0, 1)]
        assert line(ax, "base, same labels")[1] == pytest.approx(base)
    names = [tick.get_text() for tick in axes[2].get_yticklabels()]
    widths = {name: bar.get_width() for name, bar in zip(names, axes[2].containers[1], strict=True)}  # of DPO
    for kind in ("difference", "random"):
        assert widths[kind] == pytest.approx(1 - at(shifts, "unsafe_margin", arm="dpo", kind=kind) / 2)


def test_equal_shows_means_with_intervals_and_leaves_out_what_is_undefined() -> None:
    rows = table(["gap"], seed=[0, 1, 2], arm=["ssft", "dpo"], on=["end", "margin"])
    rows.loc[(rows.on == "margin") & (rows.arm == "dpo"), "gap"] = np.nan
    [ax] = plot_equal(rows, ["ssft", "dpo"], {"gap": "a gap"}, {"end": "the end", "margin": "equal"})
    drawn = sorted((float(dot.get_xdata()[0]), float(dot.get_ydata()[0])) for dot in ax.lines)
    expected = [("ssft", "end"), ("dpo", "end"), ("ssft", "margin")]
    assert [y for _, y in drawn] == pytest.approx([at(rows, "gap", arm=arm, on=on) for arm, on in expected])
    bars = sorted(tuple(bar.get_segments()[0][:, 1]) for bar in ax.collections)
    found = [over_seeds(rows[(rows.arm == arm) & (rows.on == on)].gap.tolist()) for arm, on in expected]
    assert bars == [pytest.approx((f.low, f.high)) for f in sorted(found, key=lambda f: f.low)]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["the end", "equal"]
