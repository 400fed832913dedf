"""Interactive chart of every model of the study of fragile safety, whose axes a reader chooses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd
import seaborn as sns

from makebreak.claims import NotRun
from makebreak.plots.fragility_names import mechanism_name, outcome_name, predictor_name, qualified_models
from makebreak.plots.interactive import Charts

_DIGITS = 4
"""Significant digits of the values, which keep the page small."""
_WIDTH, _HEIGHT = 420, 340
_FONT = 13
_ALL = "all"


def chart_predictor_scatter(zoo: pd.DataFrame, outcomes: Sequence[str], predictors: Sequence[str]) -> Charts:
    """One predictor and one outcome of every qualified model, both chosen by a reader, coloured by mechanism.

    A reader who points at a model sees its mechanism, dose and seed and both values, and who clicks on a
    mechanism of the legend sees its models alone. Values have four significant digits.

    Args:
        zoo: One row per model, with the columns world, seed, mechanism, dose, qualifies, is_control,
            `predictor.NAME` and `outcome.NAME`. Controls are left out.
        outcomes: Names of the outcomes to choose from; the first is shown at first.
        predictors: Names of the predictors to choose from; the first is shown at first.

    Returns:
        One chart.

    Raises:
        NotRun: If no model qualifies, or there is nothing to choose from.
    """
    rows = qualified_models(zoo)
    if rows.empty or not outcomes or not predictors:
        raise NotRun("qualified models with a predictor and an outcome")
    names = [f"predictor.{name}" for name in predictors] + [f"outcome.{name}" for name in outcomes]
    keys = [f"v{i}" for i in range(len(names))]  # a dot in a name would be read as a path
    labels = [*map(predictor_name, predictors), *map(outcome_name, outcomes)]
    values: dict[str, list[Any]] = {name: rows[name].tolist() for name in ("world", "seed", "dose")}
    values["mechanism"] = [mechanism_name(name) for name in rows.mechanism]
    values |= {key: [_round(value) for value in rows[name]] for key, name in zip(keys, names, strict=True)}

    n = len(predictors)
    x = _choice("predictor", keys[:n], labels[:n])
    y = _choice("outcome", keys[n:], labels[n:])
    words = alt.param(name="words", value=dict(zip(keys, labels, strict=True)))
    worlds = list(dict.fromkeys(values["world"]))
    world = _choice("world", [_ALL, *worlds], [_ALL, *worlds])
    picked = alt.selection_point(name="picked", fields=["mechanism"], bind="legend")
    shown = "isValid(datum.x) && isValid(datum.y)"
    chart = (
        # one row that holds a list per column is a fifth of the size of one object per model
        alt.Chart(alt.InlineData(values=[values]))
        .transform_flatten(list(values))
        .transform_calculate(x="datum[predictor]", y="datum[outcome]")
        .transform_filter(f"{shown} && (world == '{_ALL}' || datum.world == world)")
        .mark_circle(size=28)
        .encode(
            x=alt.X("x:Q", title=None, scale=alt.Scale(zero=False, nice=True)),
            y=alt.Y("y:Q", title=None, scale=alt.Scale(zero=False, nice=True)),
            color=_mechanism_colour(list(dict.fromkeys(values["mechanism"]))),
            opacity=alt.condition(picked, alt.value(0.65), alt.value(0.04)),
            tooltip=_tooltip(),
        )
        .add_params(x, y, world, words, picked)
    )
    title = alt.TitleParams(alt.ExprRef("['vertical: ' + words[outcome], 'horizontal: ' + words[predictor]]"))
    return [_finish(chart.properties(title=title))]


def _choice(name: str, values: list[str], labels: list[str]) -> alt.Parameter:
    """A list from which a reader chooses one value."""
    return alt.param(
        name=name, value=values[0], bind=alt.binding_select(options=values, labels=labels, name=f"{name} ")
    )


def _round(value: Any) -> float | int | None:
    """A number with four significant digits; None if it is not finite."""
    number = float(value) if pd.notna(value) else math.nan
    if not math.isfinite(number):
        return None
    rounded = float(f"{number:.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded


def _mechanism_colour(mechanisms: list[str]) -> alt.Color:
    scale = alt.Scale(domain=mechanisms, range=list(sns.color_palette("husl", len(mechanisms)).as_hex()))
    return alt.Color("mechanism:N", scale=scale, legend=alt.Legend(title=None, orient="bottom", columns=3))


def _tooltip() -> list[alt.Tooltip]:
    keys = [alt.Tooltip("mechanism:N"), alt.Tooltip("world:N"), alt.Tooltip("dose:Q"), alt.Tooltip("seed:Q")]
    return [*keys, alt.Tooltip("x:Q", title="predictor"), alt.Tooltip("y:Q", title="outcome")]


def _finish(chart: alt.Chart) -> alt.Chart:
    return (
        chart.properties(width=_WIDTH, height=_HEIGHT)
        .configure(font="system-ui, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(labelFontSize=_FONT, titleFontSize=_FONT, grid=False)
        .configure_legend(labelFontSize=_FONT - 1, labelLimit=220, symbolOpacity=1)
        .configure_title(fontSize=_FONT, fontWeight="normal", anchor="start")
    )
