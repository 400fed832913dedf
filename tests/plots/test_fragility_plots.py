"""Figures of what predicts fragile safety show the order, the intervals and the line of their tables."""

from __future__ import annotations

import json

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from makebreak.claims import NotRun
from makebreak.errors import InvalidInput
from makebreak.plots import (
    plot_association_matrix,
    plot_prediction_r2,
    plot_predictor_ranking,
    plot_predictor_scatter,
    plot_world_agreement,
)
from makebreak.plots.fragility import orient_associations
from makebreak.plots.fragility_names import outcome_name, predictor_name
from makebreak.plots.fragility_worlds import cosine_similarity, world_agreement
from makebreak.plots.interactive_fragility import chart_predictor_scatter
from tests.fixtures.fragility_tables import OUTCOMES, PLANTED, associations, predictions, zoo

ORDER = ["r50_random", "margin", "weight_change", "curvature", "loss_drop", "visage"]
"""Order of the planted strengths; weight_change has no claim, so that its absolute value counts."""


def row_names(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def dashed(ax: Axes, label: str) -> list[float]:
    return [float(np.asarray(line.get_xdata())[0]) for line in ax.lines if line.get_label() == label]


@pytest.fixture(autouse=True)
def close_figures() -> object:
    yield
    plt.close("all")


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_ranking_has_the_planted_order_for_either_direction_of_an_outcome(outcome: str) -> None:
    ax = plot_predictor_ranking(associations(), predictions(), outcome)
    assert row_names(ax) == [predictor_name(name) for name in ORDER]
    assert dashed(ax, "best baseline") == [pytest.approx(0.4)]


def test_ranking_marks_what_is_significant_and_what_has_no_claim() -> None:
    ax = plot_predictor_ranking(associations(), predictions(), "gcg.success")
    markers = [line for line in ax.lines if line.get_marker() in ("o", "D")]
    by_name = dict(zip(ORDER, markers, strict=True))
    is_white = {
        name: to_hex(line.get_markerfacecolor()) == "#ffffff"  # pyright: ignore
        for name, line in by_name.items()
    }
    assert {name for name, white in is_white.items() if not white} == {
        "r50_random",
        "margin",
        "weight_change",
    }
    assert [name for name, line in by_name.items() if line.get_marker() == "D"] == ["weight_change"]
    baselines = {to_hex(by_name[name].get_color()) for name in ("margin", "weight_change", "loss_drop")}  # pyright: ignore
    assert len(baselines) == 1
    assert to_hex(by_name["visage"].get_color()) not in baselines  # pyright: ignore


def test_intervals_turn_with_the_claim() -> None:
    rows = orient_associations(associations())
    assert len(rows) == len(PLANTED) * len(OUTCOMES)
    for name, strength in PLANTED.items():
        part = rows[rows.predictor == name]
        expected = abs(strength) if name == "weight_change" else strength
        for column, value in {"low": expected - 0.1, "high": expected + 0.1}.items():
            assert part[f"strength_{column}"].tolist() == pytest.approx([value] * len(OUTCOMES))
        assert part.strength.tolist() == pytest.approx([expected] * len(OUTCOMES))
    assert rows[rows.predictor == "curvature"].partial_strength.tolist() == pytest.approx(
        [0.1] * len(OUTCOMES)
    )


def test_undefined_predictors_stay_out() -> None:
    table = associations({**PLANTED, "visage": np.nan})
    ax = plot_predictor_ranking(table, predictions(), "gcg.success")
    assert row_names(ax) == [predictor_name(name) for name in ORDER if name != "visage"]
    matrix = plot_association_matrix(table)
    assert row_names(matrix)[-1] == predictor_name("visage")
    assert np.ma.getmaskarray(np.ma.asarray(matrix.images[0].get_array()))[-1].all()


def test_ranking_without_a_baseline_has_no_line() -> None:
    ax = plot_predictor_ranking(associations({"r50_random": 0.5}), predictions(), "gcg.success")
    assert dashed(ax, "best baseline") == []


def test_r2_in_order_with_the_line_of_the_baselines() -> None:
    ax = plot_prediction_r2(predictions(), "gcg.success")
    names = row_names(ax)
    assert names[:4] == ["all, ridge", "r50, random", "all, boosting", "the three baselines"]
    assert dashed(ax, "the three baselines") == [pytest.approx(0.3)]


def test_r2_far_below_zero_is_an_arrow_at_the_end_of_the_axis() -> None:
    table = predictions()
    table.loc[table.predictors == "visage", ["r2", "low", "high"]] = [-30.0, -40.0, -20.0]
    ax = plot_prediction_r2(table, "gcg.success")
    assert ax.get_xlim()[0] == -0.5
    assert [np.asarray(line.get_xdata())[0] for line in ax.lines if line.get_marker() == "<"] == [-0.5]


def test_matrix_is_turned_to_robust_safety_and_marks_cells() -> None:
    ax = plot_association_matrix(associations())
    values = pd.DataFrame(np.asarray(ax.images[0].get_array()), index=row_names(ax), columns=list(OUTCOMES))
    for name, claimed in {"curvature": -1, "margin": 1}.items():
        assert values.loc[predictor_name(name)].to_numpy() == pytest.approx([claimed * PLANTED[name]] * 3)
    dots = np.asarray(ax.collections[0].get_offsets())
    assert {row_names(ax)[int(y)] for _, y in dots} == {
        predictor_name(n) for n in ("r50_random", "margin", "weight_change")
    }
    assert len(dots) == 9


def test_two_stages_in_one_figure_are_refused() -> None:
    both = pd.concat([associations(), associations(stage="exploratory")])
    with pytest.raises(InvalidInput, match="mini, confirmatory; mini, exploratory"):
        plot_predictor_ranking(both, predictions(), "gcg.success")
    with pytest.raises(InvalidInput, match="expected one world and stage"):
        plot_association_matrix(both)


def test_nothing_defined_is_not_run() -> None:
    empty = associations(dict.fromkeys(PLANTED, np.nan))
    with pytest.raises(NotRun):
        plot_predictor_ranking(empty, predictions(), "gcg.success")
    with pytest.raises(NotRun):
        plot_association_matrix(empty)
    with pytest.raises(NotRun):
        plot_prediction_r2(predictions(), "unknown.success")
    with pytest.raises(NotRun):
        plot_predictor_scatter(zoo().assign(qualifies=False), "margin", "gcg.success")


def test_names_are_words() -> None:
    assert predictor_name("r50_random") == "r50, random"
    assert predictor_name("my_own_measure") == "my own measure"
    assert outcome_name("pruning_10.compliance") == "10 % pruning, compliance"


def test_scatter_has_qualified_models_with_four_digits() -> None:
    models = zoo(("mini", "hidden"))
    models.loc[1, "predictor.visage"] = np.nan
    [chart] = chart_predictor_scatter(models, OUTCOMES, list(PLANTED))
    specification = chart.to_dict()
    [[values]] = specification["datasets"].values()
    kept = models[models.qualifies & ~models.is_control]
    assert len(kept) < len(models)
    assert {len(column) for column in values.values()} == {len(kept)}
    column = values[f"v{list(PLANTED).index('visage')}"]
    assert column[1] is None
    assert [value for value in column if value is not None] == pytest.approx(
        kept["predictor.visage"].dropna().tolist(), rel=1e-3
    )
    assert all(len(f"{abs(value):.12g}".replace("0.", "").lstrip("0")) <= 5 for value in column if value)
    json.dumps(specification, allow_nan=False)
    choices = {each["name"]: each.get("bind", {}) for each in specification["params"] if "bind" in each}
    assert choices["predictor"]["labels"] == [predictor_name(name) for name in PLANTED]
    assert choices["outcome"]["labels"] == [outcome_name(name) for name in OUTCOMES]
    assert choices["world"]["options"] == ["all", "mini", "hidden"]


def test_scatter_without_models_is_not_run() -> None:
    with pytest.raises(NotRun):
        chart_predictor_scatter(zoo().assign(qualifies=False), OUTCOMES, list(PLANTED))


def test_agreement_of_worlds_is_that_of_their_tables() -> None:
    """Equal worlds lie on the diagonal, and turned ones are opposite."""
    turned = {name: -strength for name, strength in PLANTED.items()}
    for outcome in OUTCOMES:
        same = pd.concat([associations(), associations(world="hidden")])
        rows = world_agreement(same, outcome, ("mini", "hidden"))
        assert rows.x.tolist() == rows.y.tolist()
        assert rows.x["visage"] < 0 < rows.x["r50_random"], "positive is robust, whatever the outcome"
        assert rows.x["curvature"] < 0, "a larger curvature is fragile"
        assert (rows.x_low < rows.x).all()
        assert (rows.x < rows.x_high).all()
        assert (
            "similarity 1.00, 6 predictors"
            in plot_world_agreement(same, outcome, ("mini", "hidden")).get_title()
        )
        both = pd.concat([associations(), associations(turned, world="hidden")])
        assert "similarity −1.00" in plot_world_agreement(both, outcome, ("mini", "hidden")).get_title()
        renamed = {name: -s if name == "curvature" else s for name, s in PLANTED.items()}
        flipped = [associations(renamed, world=world) for world in ("mini", "hidden")]
        assert cosine_similarity(world_agreement(pd.concat(flipped), outcome, ("mini", "hidden"))) == (
            pytest.approx(1.0)
        ), "a predictor that is defined with the other sign changes nothing"
    random = np.random.default_rng(0)
    shuffled = [
        cosine_similarity(pd.DataFrame({"x": random.normal(size=36), "y": random.normal(size=36)}))
        for _ in range(200)
    ]
    assert abs(np.mean(shuffled)) < 0.05, "nothing in common"  # type: ignore[arg-type]
    with pytest.raises(NotRun, match="both mini and text"):
        plot_world_agreement(associations(), OUTCOMES[0], ("mini", "text"))
