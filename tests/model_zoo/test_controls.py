"""Comparison with controls: planted differences, their pairs and their intervals."""

from __future__ import annotations

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from makebreak.model_zoo import compare_with_controls
from makebreak.plots import plot_controls
from makebreak.stats import mean_confidence_interval


def row(
    seed: int,
    mechanism: str,
    value: float | None,
    *,
    weight_change: float = 5.0,
    rate: float = 1e-3,
    **other: object,
):
    common = {
        "world": "mini",
        "pretraining": "pretraining",
        "settings": "",
        "learning_rate": rate,
        "step": 400,
    }
    common |= {"weight_decay": 0.1}
    named = {
        "seed": seed,
        "mechanism": mechanism,
        "weight_change": 0.0 if mechanism == "base" else weight_change,
    }
    return common | named | {"steps": 400, "value": value} | other


EFFECT = [0.5, 0.6, 0.7]


def rows() -> list[dict[str, object]]:
    runs = []
    for seed, effect in enumerate(EFFECT):
        level = 10.0 * seed  # seeds differ far more than runs do: only pairs tell
        runs += [
            row(seed, "base", level),
            row(seed, "ssft", level + effect),
            row(seed, "ssft", level + 99, step=200),
            row(seed, "ssft:sham_unsafe", level + 0.1, weight_change=5.2, rate=1.2e-3),
            row(seed, "ssft:sham_unsafe", level + 50, weight_change=9.0, rate=3e-3),
            row(seed, "ssft:remapped_unsafe", level + effect),
            row(seed, "continued", level + 0.2),
            row(seed, "ssft>dpo+nll", level + 2 * effect),
            row(seed, "ssft:sham_unsafe>dpo+nll:sham_unsafe", level + effect),
            row(seed, "ssft", level + 7, world="hidden"),
        ]
    return runs


def test_differences_are_paired_with_the_nearest() -> None:
    result = compare_with_controls(pd.DataFrame(rows()).sample(frac=1, random_state=0), "value")
    by_control = result.set_index(["world", "mechanism", "control"])
    for control, expected in {
        "base": EFFECT,
        "sham": [e - 0.1 for e in EFFECT],
        "remap": [0.0, 0.0, 0.0],
        "continued": [e - 0.2 for e in EFFECT],
    }.items():
        line, estimate = by_control.loc["mini", "ssft", control], mean_confidence_interval(expected)
        assert (line.estimate, line.low, line.high) == pytest.approx(tuple(estimate)[:3], abs=1e-9), control
        assert line.n_seeds == 3
    assert by_control.loc["mini", "ssft", "none"].estimate == pytest.approx(10.6)
    assert by_control.loc["mini", "ssft", "sham"].weight_change_ratio == pytest.approx(5 / 5.2)
    assert by_control.loc["mini", "ssft>dpo+nll", "sham"].estimate == pytest.approx(0.6)
    assert ("hidden", "ssft", "base") not in by_control.index, "another world's base is no control"
    assert ("mini", "ssft", "new operator") not in by_control.index
    assert not any(":" in mechanism or mechanism in ("base", "continued") for mechanism in result.mechanism)


def test_learning_rates_are_separate_runs() -> None:
    runs = [*rows(), *(row(s, "ssft", 10.0 * s + 3, rate=1e-4) for s in range(3)), row(0, "npo", None)]
    result = compare_with_controls(pd.DataFrame(runs), "value")
    rates = result[(result.mechanism == "ssft") & (result.world == "mini") & (result.control == "base")]
    assert dict(zip(rates.learning_rate, rates.estimate, strict=True)) == pytest.approx(
        {1e-3: 0.6, 1e-4: 3.0}
    )
    assert "npo" not in set(result.mechanism)
    single = compare_with_controls(pd.DataFrame([r for r in rows() if r["seed"] == 0]), "value")
    assert single.low.isna().all()


def test_unknown_column_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="column 'vlaue' is not in the table; did you mean 'value'"):
        compare_with_controls(pd.DataFrame(rows()), "vlaue")


@pytest.mark.parametrize("seeds", [1, 3])
def test_figure_shows_every_difference(seeds: int) -> None:
    result = compare_with_controls(pd.DataFrame([r for r in rows() if r["seed"] < seeds]), "value")
    ax = plot_controls(result[result.world == "mini"], "value")
    shown = sorted(float(x) for drawn in ax.lines if drawn.get_marker() == "o" for x in drawn.get_xdata())
    part = result[(result.control != "none") & (result.world == "mini")]
    assert shown == pytest.approx(sorted(part.estimate))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["ssft, 0.001", "ssft>dpo+nll, 0.001"]
    plt.gcf().canvas.draw()
    plt.close("all")


def test_weight_decay_and_steps_are_separate_runs() -> None:
    other = [row(seed, "ssft", 10.0 * seed + 1, weight_decay=0.0) for seed in range(3)]
    warm = [row(seed, "ssft", 10.0 * seed + 2, step=100, steps=100) for seed in range(3)]
    result = compare_with_controls(pd.DataFrame(rows() + other + warm), "value").query(
        "control == 'base' and world == 'mini'"
    )
    ssft = result[result.mechanism == "ssft"].set_index(["weight_decay", "steps"]).estimate.to_dict()
    assert ssft == pytest.approx({(0.1, 400): 0.6, (0.0, 400): 1.0, (0.1, 100): 2.0})
