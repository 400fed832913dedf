"""Is a run compared with the controls of its own base, and does a planted difference come out with its interval?"""

from __future__ import annotations

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from makebreak.plots import plot_ladder
from makebreak.stats import over_seeds
from makebreak.zoo import ladder


def row(
    seed: int, mechanism: str, value: float | None, *, moved: float = 5.0, rate: float = 1e-3, **other: object
):
    common = {
        "world": "mini",
        "pretraining": "pretraining",
        "settings": "",
        "learning_rate": rate,
        "step": 400,
    }
    common |= {"weight_decay": 0.1}
    found = {"seed": seed, "mechanism": mechanism, "weight_change": 0.0 if mechanism == "base" else moved}
    return common | found | {"steps": 400, "found": value} | other


EFFECT = [0.5, 0.6, 0.7]


def rows() -> list[dict[str, object]]:
    made = []
    for seed, effect in enumerate(EFFECT):
        level = 10.0 * seed  # seeds differ far more than runs do: only pairs tell
        made += [
            row(seed, "base", level),
            row(seed, "ssft", level + effect),
            row(seed, "ssft", level + 99, step=200),
            row(seed, "ssft:sham_unsafe", level + 0.1, moved=5.2, rate=1.2e-3),
            row(seed, "ssft:sham_unsafe", level + 50, moved=9.0, rate=3e-3),
            row(seed, "ssft:remapped_unsafe", level + effect),
            row(seed, "continued", level + 0.2),
            row(seed, "ssft>dpo+nll", level + 2 * effect),
            row(seed, "ssft:sham_unsafe>dpo+nll:sham_unsafe", level + effect),
            row(seed, "ssft", level + 7, world="hidden"),
        ]
    return made


def test_differences_are_paired_and_of_the_control_that_moved_nearest_as_far() -> None:
    found = ladder(pd.DataFrame(rows()).sample(frac=1, random_state=0), "found")
    at = found.set_index(["world", "mechanism", "rung"])
    for rung, expected in {
        "base": EFFECT,
        "sham": [e - 0.1 for e in EFFECT],
        "remap": [0.0, 0.0, 0.0],
        "continued": [e - 0.2 for e in EFFECT],
    }.items():
        line, estimate = at.loc["mini", "ssft", rung], over_seeds(expected)
        assert (line.estimate, line.low, line.high) == pytest.approx(tuple(estimate)[:3], abs=1e-9), rung
        assert line.n_seeds == 3
    assert at.loc["mini", "ssft", "value"].estimate == pytest.approx(10.6)
    assert at.loc["mini", "ssft", "sham"].moved == pytest.approx(5 / 5.2)
    assert at.loc["mini", "ssft>dpo+nll", "sham"].estimate == pytest.approx(0.6)
    assert ("hidden", "ssft", "base") not in at.index, "another world's base is no control"
    assert ("mini", "ssft", "new operator") not in at.index
    assert not any(":" in mechanism or mechanism in ("base", "continued") for mechanism in found.mechanism)


def test_rates_and_settings_are_runs_of_their_own_and_unmeasured_ones_are_left_out() -> None:
    made = [*rows(), *(row(s, "ssft", 10.0 * s + 3, rate=1e-4) for s in range(3)), row(0, "npo", None)]
    found = ladder(pd.DataFrame(made), "found")
    rates = found[(found.mechanism == "ssft") & (found.world == "mini") & (found.rung == "base")]
    assert dict(zip(rates.learning_rate, rates.estimate, strict=True)) == pytest.approx(
        {1e-3: 0.6, 1e-4: 3.0}
    )
    assert "npo" not in set(found.mechanism)
    single = ladder(pd.DataFrame([r for r in rows() if r["seed"] == 0]), "found")
    assert single.low.isna().all()


def test_an_unknown_column_names_a_near_one() -> None:
    with pytest.raises(ValueError, match="column 'fuond' is not in the table; did you mean 'found'"):
        ladder(pd.DataFrame(rows()), "fuond")


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_figure_shows_every_difference(seeds: int) -> None:
    found = ladder(pd.DataFrame([r for r in rows() if r["seed"] < seeds]), "found")
    ax = plot_ladder(found[found.world == "mini"], "found")
    shown = sorted(float(x) for drawn in ax.lines if drawn.get_marker() == "o" for x in drawn.get_xdata())
    part = found[(found.rung != "value") & (found.world == "mini")]
    assert shown == pytest.approx(sorted(part.estimate))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["ssft, 0.001", "ssft>dpo+nll, 0.001"]
    plt.gcf().canvas.draw()
    plt.close("all")


def test_runs_that_differ_in_weight_decay_or_steps_are_not_put_together() -> None:
    other = [row(seed, "ssft", 10.0 * seed + 1, weight_decay=0.0) for seed in range(3)]
    warm = [row(seed, "ssft", 10.0 * seed + 2, step=100, steps=100) for seed in range(3)]
    found = ladder(pd.DataFrame(rows() + other + warm), "found").query("rung == 'base' and world == 'mini'")
    ssft = found[found.mechanism == "ssft"].set_index(["weight_decay", "steps"]).estimate.to_dict()
    assert ssft == pytest.approx({(0.1, 400): 0.6, (0.0, 400): 1.0, (0.1, 100): 2.0})
