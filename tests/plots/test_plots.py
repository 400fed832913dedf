"""Figures show the numbers of their tables, and leave the caller's settings as they were."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from makebreak.plots import plot_null_share, plot_outcomes, plot_separation, style
from makebreak.plots.style import OUTCOME_COLOURS, arm_colours, arm_name
from makebreak.stats import mean_confidence_interval

ARMS = ["base", "ssft", "sham_ssft"]
FAMILIES = ["unsafe", "safe", "unsafe_long"]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Draw every figure that a test left, so that warnings of drawing are errors too; then close it."""
    plt.close("all")
    yield
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    plt.close("all")
    assert plt.get_fignums() == []


def outcomes(seeds: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {"seed": seed, "arm": arm, "family": family}
        | dict(zip(OUTCOME_COLOURS, rng.dirichlet([1, 1, 1, 1]), strict=True))
        for seed in range(seeds)
        for arm in ARMS
        for family in [*FAMILIES, "not_shown"]
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def separations(seeds: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows = [
        {"seed": s, "arm": arm, "layer": layer, "requests": requests}
        | dict(zip(("gap", "normalised", "shuffled_normalised"), rng.uniform(0, 2, 3), strict=True))
        for s in range(seeds)
        for arm in ARMS
        for layer in range(4)
        for requests in ("standard", "token-matched")
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def null_shares(
    seeds: int = 3, arms: list[str] = ARMS, delta_layers: tuple[int, ...] = (0, 1, 2)
) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    rows = [
        {"seed": s, "arm": arm, "layer": layer, "family": family, "rule": rule, "quantity": quantity}
        | {"matrix": "mlp.W_in"}
        | {"outcome": outcome, "share": rng.uniform(), "chance": 0.75}
        | {"other_seed_share": rng.uniform(), "permuted_share": rng.uniform()}
        for s in range(seeds)
        for arm in arms
        for layer in range(3)
        for family in ("safe", "unsafe", "sham_safe", "sham_unsafe")
        for rule in ("exact", "energy90")
        for quantity in ("pre", "delta")
        for outcome in ("all", "refuse")
        if quantity == "pre" or (arm != "base" and layer in delta_layers)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


PAIRS = {"base": ("safe", "unsafe"), "ssft": ("safe", "unsafe"), "sham_ssft": ("sham_safe", "sham_unsafe")}


def line(ax: Axes, label: str) -> tuple[list[float], list[float]]:
    (shown,) = [drawn for drawn in ax.lines if drawn.get_label() == label]
    return list(map(float, shown.get_xdata())), list(map(float, shown.get_ydata()))  # type: ignore[arg-type]


def means(table: pd.DataFrame, column: str, n_layers: int) -> list[float]:
    return [
        float(np.mean([r[column] for r in table.to_dict("records") if r["layer"] == i]))
        for i in range(n_layers)
    ]


def test_outcome_bars_and_dots() -> None:
    table = outcomes()
    axes = plot_outcomes(table, ARMS, FAMILIES)
    assert [ax.get_title() for ax in axes] == ["base", "SSFT", "SSFT sham"]
    assert [t.get_text() for t in axes[0].get_yticklabels()] == ["unsafe", "safe", "unsafe long"]
    for ax, arm in zip(axes, ARMS, strict=True):
        assert len(ax.containers) == 4
        reached = np.zeros(3)
        for bars, outcome in zip(ax.containers, OUTCOME_COLOURS, strict=True):
            shown = [bar.get_width() for bar in bars]
            rows = table[table.arm == arm]
            assert shown == pytest.approx([rows[rows.family == f][outcome].mean() for f in FAMILIES])
            assert [bar.get_x() for bar in bars] == pytest.approx(reached)
            assert {bar.get_facecolor()[:3] for bar in bars} == {tuple(OUTCOME_COLOURS[outcome])}
            reached += shown
        assert reached == pytest.approx(np.ones(3))
        rows = table[(table.arm == arm) & table.family.isin(FAMILIES)]
        (dots,) = ax.lines
        expected = {(round(r.refuse, 9), FAMILIES.index(r.family)) for r in rows.itertuples()}
        assert {(round(float(x), 9), int(y)) for x, y in dots.get_xydata()} == expected
        assert len(expected) == 9


def test_family_without_rows_is_an_empty_bar() -> None:
    axes = plot_outcomes(outcomes(1), ["ssft"], ["unsafe", "never_asked"])
    assert axes.shape == (1,)
    assert all(np.isnan(bars[1].get_width()) for bars in axes[0].containers)


def test_separation_lines_are_means() -> None:
    table = separations()
    axes = plot_separation(table, ARMS)
    shown = [("standard", "gap"), ("standard", "normalised"), ("token-matched", "normalised")]
    for ax, (requests, column) in zip(axes, shown, strict=True):
        part = table[table.requests == requests]
        for arm in ARMS:
            x, y = line(ax, arm_name(arm))
            assert x == [1, 2, 3, 4]
            assert y == pytest.approx(means(part[part.arm == arm], column, 4))
        if column == "normalised":
            assert line(ax, "shuffled labels")[1] == pytest.approx(means(part, "shuffled_normalised", 4))
        else:
            assert len(ax.lines) == len(ARMS)


def test_bands_are_student_intervals() -> None:
    table = separations()
    ax = plot_separation(table, ["ssft"])[0]
    (band,) = ax.collections
    drawn = band.get_paths()[0].vertices
    part = table[(table.requests == "standard") & (table.arm == "ssft")]
    for layer in range(4):
        interval = mean_confidence_interval(part[part.layer == layer].gap.tolist())
        band_values = drawn[drawn[:, 0] == layer + 1][:, 1]
        assert (band_values.min(), band_values.max()) == pytest.approx((interval.low, interval.high))
    single = plot_separation(separations(1), ["ssft"])[0]
    assert len(single.collections) == 0
    assert len(single.lines) == 1


def test_null_share_lines() -> None:
    table = null_shares()
    axes = plot_null_share(table, ARMS, PAIRS)
    exact = table[(table.rule == "exact") & (table.outcome == "all")]
    for arm, (safe, unsafe) in PAIRS.items():
        expected = {
            (family, quantity): means(
                exact[(exact.arm == arm) & (exact.family == family) & (exact.quantity == quantity)],
                "share",
                3,
            )
            for family in (safe, unsafe)
            for quantity in (("pre",) if arm == "base" else ("pre", "delta"))
        }
        assert line(axes[0], arm_name(arm))[1] == pytest.approx(expected[unsafe, "pre"])
        if arm != "base":
            shares = exact[(exact.arm == arm) & (exact.quantity == "pre")]
            by_family = shares.pivot(index=["layer", "seed"], columns="family", values="share")
            ratios = np.log(by_family[unsafe] / by_family[safe]).groupby("layer").mean()
            assert line(axes[2], arm_name(arm))[1] == pytest.approx(ratios.tolist())
            assert line(axes[1], arm_name(arm))[1] == pytest.approx(expected[unsafe, "delta"])
    assert "base" not in [drawn.get_label() for drawn in axes[1].lines]  # the base has no update
    assert line(axes[1], "chance")[1] == [0.75, 0.75]
    shown = pd.concat(
        [exact[(exact.arm == arm) & (exact.family == unsafe)] for arm, (_, unsafe) in PAIRS.items()]
    )
    delta = shown[shown.quantity == "delta"]
    assert line(axes[1], "outputs permuted")[1] == pytest.approx(means(delta, "permuted_share", 3))
    assert line(axes[1], "another seed's null space")[1] == pytest.approx(means(delta, "other_seed_share", 3))


def test_layer_without_an_update() -> None:
    """`null_share_rows` has no `delta` where a layer's W_in did not move: layers 2 and 3 are not layers 1 and
    2."""
    axes = plot_null_share(null_shares(delta_layers=(1, 2)), ARMS, PAIRS)
    assert line(axes[1], "SSFT")[0] == [2, 3]
    assert line(axes[0], "SSFT")[0] == [1, 2, 3]


def test_layer_without_a_null_space() -> None:
    table = null_shares()
    table["share"] = table["share"].where(table.layer != 1)
    axes = plot_null_share(table, ARMS, PAIRS)
    assert [line(ax, "SSFT")[0] for ax in axes] == [[1, 3]] * 3


def test_shams_are_dashed() -> None:
    ax = plot_separation(separations(), ARMS)[0]
    drawn = {shown.get_label(): shown for shown in ax.lines}
    assert drawn["SSFT sham"].get_linestyle() == "--"
    assert drawn["SSFT"].get_linestyle() == "-"
    assert drawn["SSFT sham"].get_color() == drawn["SSFT"].get_color() != drawn["base"].get_color()
    assert arm_colours(["sham_dpo", "dpo"])["sham_dpo"] == arm_colours(["dpo"])["dpo"]


def test_style_restores_settings() -> None:
    before = dict(mpl.rcParams)
    with style():
        assert mpl.rcParams["savefig.dpi"] == 200
        assert not mpl.rcParams["axes.spines.top"]
        plot_outcomes(outcomes(), ARMS, FAMILIES)
    assert dict(mpl.rcParams) == before
    with pytest.raises(RuntimeError, match="in the middle"), style():
        raise RuntimeError("in the middle")
    assert dict(mpl.rcParams) == before
