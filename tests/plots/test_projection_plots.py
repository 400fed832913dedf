"""Figures of attacks show the numbers of their tables."""

from __future__ import annotations

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from makebreak.plots import plot_attack_success, plot_interchange, plot_projection, plot_steering
from tests.plots.test_mechanism_plots import at, table
from tests.plots.test_plots import closed  # noqa: F401

ARMS = ["ssft", "dpo"]


def test_attack_success_bars() -> None:
    rows = table(
        ["compliance_rate", "refusal_rate"],
        world=["mini", "hidden"],
        seed=[0, 1],
        arm=[*ARMS, "npo"],
        attack=["a", "b", "c"],
    )
    rows = rows[(rows.world == "mini") | (rows.arm == "ssft")]
    axes = plot_attack_success(rows, ARMS, {"b": "the second", "a": "the first"})
    assert [ax.get_title() for ax in axes[0]] == [f"world {world}" for world in dict.fromkeys(rows.world)]
    shown = {ax.get_title(): ax for ax in axes[0]}
    assert [label.get_text() for label in axes[0, 0].get_yticklabels()] == ["the second", "the first"]
    assert len(shown["world mini"].patches) == 2 * 2 * len(ARMS)
    assert len(shown["world hidden"].patches) == 2 * 2
    widths = [patch.get_width() for patch in shown["world mini"].patches]
    for arm in ARMS:
        assert any(
            width == pytest.approx(at(rows, "compliance_rate", world="mini", arm=arm, attack="b"))
            for width in widths
        )
    plt.gcf().canvas.draw()


def test_projection_is_the_mean_over_requests() -> None:
    rows = table(
        ["tau_normalised"],
        world=["mini"],
        seed=[0],
        arm=["base", *ARMS],
        attack=["a", "b"],
        layer=[0, 1, 2],
        outcome=["all", "complied"],
        n=[30],
    )
    rows.loc[rows.attack == "b", "n"] = 10
    rows.loc[(rows.attack == "b") & (rows.layer == 0), "n"] = 0
    axes = plot_projection(
        rows, ["base", *ARMS, "npo"], {"both": (("a", "b"), "complied"), "none": (("c",), "all")}
    )
    assert axes.shape == (1, 4)
    assert not axes[0, 3].axison
    mean = next(line for line in axes[0, 1].get_lines() if line.get_label() == "both")
    complied = rows[(rows.arm == "ssft") & (rows.outcome == "complied")]
    for layer, weights in enumerate(((30, 0), (30, 10), (30, 10))):
        values = [at(complied, "tau_normalised", layer=layer, attack=attack) for attack in ("a", "b")]
        expected = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
        assert mean.get_ydata()[layer] == pytest.approx(expected)  # type: ignore[index]
    plt.gcf().canvas.draw()


def test_steering_is_drawn_against_its_cost() -> None:
    kinds = ["difference", "shuffled", "other_label", "covariance", "random"]
    steering = table(
        ["reversal_rate", "induction_rate", "safe_compliance_baseline", "safe_compliance_rate"],
        seed=[0, 1],
        arm=ARMS,
        kind=kinds,
        scale=[0.5, 1.0],
    )
    monitors = table(["detection_rate"], seed=[0, 1], arm=ARMS, attack=["a", "b"])
    axes = plot_steering(steering, monitors, {"b": "second", "missing": "none"})
    line = next(line for line in axes[0].get_lines() if line.get_label() == "difference of means")
    cost = steering.assign(cost=steering.safe_compliance_baseline - steering.safe_compliance_rate)
    for i, scale in enumerate((0.5, 1.0)):
        assert line.get_xdata()[i] == pytest.approx(at(cost, "cost", kind="difference", scale=scale))  # type: ignore[index]
        assert line.get_ydata()[i] == pytest.approx(at(cost, "reversal_rate", kind="difference", scale=scale))  # type: ignore[index]
    widths = [patch.get_width() for patch in axes[2].patches]
    assert widths == [pytest.approx(at(monitors, "detection_rate", attack="b")), 0.0]
    plt.gcf().canvas.draw()


def test_interchange_shows_means_and_seeds() -> None:
    rows = [
        {"arm": arm, "seed": seed, "donor": donor, "failure_rate": rate + 0.1 * seed, "refusal_rate": None}
        for arm in ("base", "ssft")
        for donor, rate in (("unsafe", 0.6), ("safe", 0.1))
        for seed in (0, 1)
    ]
    left, right = plot_interchange(pd.DataFrame(rows))
    heights = sorted(round(bar.get_height(), 3) for bar in left.patches if bar.get_height())
    assert heights == [0.15, 0.15, 0.65, 0.65]
    assert not any(bar.get_height() > 0 for bar in right.patches)
