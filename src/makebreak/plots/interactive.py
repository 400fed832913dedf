"""Interactive charts that show the values of a figure where a reader points; one per panel of the figure.

They take the same tables as the figures of the same names, and have the same colours and intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import seaborn as sns

from makebreak.mechanism import VERDICT_RULES
from makebreak.plots.landscape import RATES, band_limits
from makebreak.plots.style import layer_ticks

Charts = list[alt.Chart | alt.LayerChart]
"""The panels of a figure."""
SCRIPT = Path(__file__).with_name("vega.min.js")
"""The JavaScript that draws the charts."""
_WIDTH, _HEIGHT = 250, 200
_FONT = 13
_BAR = 15
"""Width of a bar."""
_VALUE = ".3f"
_DOTS = alt.OverlayMarkDef(color="black", size=20)


def chart_refusal_rates(table: pd.DataFrame, by: str) -> Charts:
    """Refusal rates with their 95 % intervals over requests, one bar per judge.

    Args:
        table: Columns judge, n, refuse, low, high, and `by`.
        by: Column of groups, along the axis.

    Returns:
        One chart.
    """
    rows = table.rename(columns={by: "group"})[["group", "judge", "n", "refuse", "low", "high"]]
    groups, judges = list(dict.fromkeys(rows.group)), list(dict.fromkeys(rows.judge))
    axis = alt.Axis(title=None, labelAngle=0 if len(groups) <= len("abcd") else -30, labelLimit=180)
    base = alt.Chart(rows).encode(
        x=alt.X("group:N", sort=groups, axis=axis),
        xOffset=alt.XOffset("judge:N", sort=judges),
        tooltip=_tooltip(group="", judge="", refuse=_VALUE, low=_VALUE, high=_VALUE, n="d"),
    )
    bars = base.mark_bar().encode(
        y=alt.Y("refuse:Q", title="refusal rate", scale=alt.Scale(domain=[0.0, 1.0])),
        color=_colour("judge", judges),
    )
    rules = base.mark_rule(color="black").encode(y="low:Q", y2="high:Q")
    return [_finish(bars + rules, width=max(_WIDTH, _BAR * len(groups) * len(judges)))]


def chart_class_separation(clusters: pd.DataFrame) -> Charts:
    """Separation of harmful and harmless requests by layer, as in `plot_class_separation`.

    Args:
        clusters: Columns layer, normalised, shuffled_normalised, auroc, auroc_low, auroc_high,
            shuffled_auroc.

    Returns:
        Two charts.
    """
    rows = clusters.assign(layer=clusters.layer + 1)
    charts: Charts = []
    for column, title in (("normalised", "normalised gap of τ"), ("auroc", "AUROC of τ")):
        names = ["layer", column, f"shuffled_{column}"]
        names += ["auroc_low", "auroc_high"] if column == "auroc" else []
        formats = {name: "d" if name == "layer" else _VALUE for name in names}
        base = alt.Chart(rows[names]).encode(x=_layers("layer", rows), tooltip=_tooltip(**formats))
        line = base.mark_line(color="black", point=_DOTS).encode(y=alt.Y(f"{column}:Q", title=title))
        chance = base.mark_line(color="black", strokeDash=[2, 3]).encode(y=f"shuffled_{column}:Q")
        layers = [chance, line]
        if column == "auroc":
            band = base.mark_area(color="black", opacity=0.15)
            layers = [band.encode(y="auroc_low:Q", y2="auroc_high:Q"), *layers]
        charts.append(_finish(alt.layer(*layers)))
    return charts


def chart_refusal_directions(table: pd.DataFrame) -> Charts:
    """Effects of every candidate for the refusal direction, as in `plot_refusal_directions`.

    Args:
        table: Columns layer, bypass, induce, kl, is_selected.

    Returns:
        Three charts.
    """
    rows = table.assign(layer=table.layer + 1, is_selected=table.is_selected.astype(bool))
    titles = {"bypass": "ablated: harmful", "induce": "added: harmless", "kl": "ablated: KL on harmless"}
    formats = {"layer": "d", **dict.fromkeys(titles, _VALUE)}
    charts: Charts = []
    for column, title in titles.items():
        label = "KL (nats)" if column == "kl" else "log-odds of a refusal"
        part = rows[["layer", *titles, "is_selected"]].astype(dict.fromkeys(titles, float))
        base = alt.Chart(part, title=title).encode(
            x=_layers("before layer", rows), y=alt.Y(f"{column}:Q", title=label), tooltip=_tooltip(**formats)
        )
        ring = base.mark_point(color="#d62728", size=130).transform_filter("datum.is_selected")
        charts.append(_finish(base.mark_line(color="black", point=_DOTS) + ring))
    return charts


def chart_training_loss(table: pd.DataFrame) -> Charts:
    """Training loss by step, from a table with the columns step and loss."""
    rows = table.assign(step=table.step + 1)[["step", "loss"]]
    line = alt.Chart(rows).mark_line(color="black", point=_DOTS)
    line = line.encode(x=_x("step"), y=_y("loss"), tooltip=_tooltip(step="d", loss=".4f"))
    return [_finish(line, width=2 * _WIDTH)]


def chart_attacks(table: pd.DataFrame) -> Charts:
    """Success rate of each attack by criterion, as in `plot_attacks`; markers of controls are hollow.

    Args:
        table: Columns attack, is_control, criterion, success_rate, low, high, n.

    Returns:
        One chart.
    """
    attacks, criteria = list(dict.fromkeys(table.attack)), list(dict.fromkeys(table.criterion))
    numbers = ["success_rate", "low", "high"]
    rows = table[["attack", "is_control", "criterion", "n", *numbers]][table.success_rate.notna()]
    rows = rows.astype({"is_control": bool, **dict.fromkeys(numbers, float)})
    names = alt.Axis(title=None, labelLimit=150)
    base = alt.Chart(rows).encode(
        y=alt.Y("attack:N", sort=attacks, axis=names),
        yOffset=alt.YOffset("criterion:N", sort=criteria),
        color=_colour("criterion", criteria),
        tooltip=_tooltip(attack="", criterion="", success_rate=_VALUE, low=_VALUE, high=_VALUE, n="d"),
    )
    rules = base.mark_rule().encode(x=_x("low", "attack success rate", [0.0, 1.0]), x2="high:Q")
    points = base.mark_point(filled=True, size=45, opacity=1).encode(x="success_rate:Q")
    hollow = points.mark_point(filled=True, fill="white", size=45, opacity=1)
    is_control = "datum.is_control"
    layers = (rules, points.transform_filter(f"!{is_control}"), hollow.transform_filter(is_control))
    return [_finish(alt.layer(*layers), height=max(_HEIGHT, 9 * len(attacks) * len(criteria)))]


def chart_search(table: pd.DataFrame) -> Charts:
    """Lowest loss of the target so far by step, as in `plot_search`.

    Args:
        table: Columns attack, step, loss (nats per token).

    Returns:
        One chart.
    """
    names = list(dict.fromkeys(table.attack))
    line = alt.Chart(table[["attack", "step", "loss"]]).mark_line(point=alt.OverlayMarkDef(size=15))
    line = line.encode(
        x=_x("step"),
        y=_y("loss", "loss of the target (nats per token)"),
        color=_colour("attack", names),
        tooltip=_tooltip(attack="", step="d", loss=_VALUE),
    )
    return [_finish(line, width=2 * _WIDTH)]


def chart_stitching(table: pd.DataFrame) -> Charts:
    """Shares of a refusal and of the KL in stitched models by cut, as in `plot_stitching`, of one pair.

    Args:
        table: Columns layer, n_layers, lower_share, upper_share, random_share, kl_share.

    Returns:
        Three charts.
    """
    columns = ["lower_share", "upper_share", "random_share", "kl_share"]
    rows = table[["layer", *columns]]  # the cut lies below the layer, so that many blocks are below it
    panels: dict[str, tuple[str, str, float]] = {
        "lower_share": ("tuned below, base above", "share of p(refusal)", VERDICT_RULES.min_refusal_share),
        "upper_share": ("base below, tuned above", "share of p(refusal)", VERDICT_RULES.min_refusal_share),
        "kl_share": (
            "effect of the movement", "share of KL(base ‖ tuned)", VERDICT_RULES.max_silent_share
        ),
    }  # fmt: skip
    formats = {"layer": "d", **dict.fromkeys(columns, _VALUE)}
    charts: Charts = []
    for column, (title, label, limit) in panels.items():
        base = alt.Chart(rows, title=title).encode(
            x=_layers("blocks below the cut", rows), y=_y(column, label), tooltip=_tooltip(**formats)
        )
        parts: list[alt.Chart] = [base.mark_line(color="black", point=_DOTS)]
        if column == "lower_share":
            parts.append(base.mark_line(color="black", strokeDash=[2, 3]).encode(y="random_share:Q"))
        parts.append(alt.Chart(pd.DataFrame({"limit": [limit]})).mark_rule().encode(y="limit:Q"))
        charts.append(_finish(alt.layer(*parts)))
    return charts


def chart_basins(curves: pd.DataFrame, *, along: str = "relative norm") -> Charts:
    """Outcome rates of one model along random directions: means and bands, as in `plot_basins`.

    Args:
        curves: Columns coordinate, refusal_rate, compliance_rate, safe_compliance_rate.
        along: Label of the coordinate.

    Returns:
        One chart.
    """
    low, mean, high = band_limits(curves)
    names = [name for name, _, _ in RATES.values()]
    rows = pd.concat(
        pd.DataFrame({"rate": mean[column], "low": low[column], "high": high[column]})
        .reset_index()
        .assign(outcome=name)
        for column, (name, _, _) in RATES.items()
    )
    colours = [_hex(colour) for _, colour, _ in RATES.values()]
    formats = {"outcome": "", "coordinate": _VALUE, "rate": _VALUE, "low": _VALUE, "high": _VALUE}
    base = alt.Chart(rows).encode(
        x=_x("coordinate", along), color=_colour("outcome", names, colours), tooltip=_tooltip(**formats)
    )
    band = base.mark_area(opacity=0.15).encode(y=_y("low", "share of requests", [0.0, 1.0]), y2="high:Q")
    line = base.mark_line(point=alt.OverlayMarkDef(size=15)).encode(y="rate:Q")
    return [_finish(band + line, width=2 * _WIDTH)]


def chart_specifications(charts: Mapping[str, Callable[[], Charts]], name: str) -> tuple[dict[str, Any], ...]:
    """Vega-Lite specifications of the charts of one figure.

    Args:
        charts: For each name, a function that makes the charts of the figure.
        name: The figure.

    Returns:
        One specification per panel, with its data and without an address; none for a figure without charts.
    """
    if name not in charts:
        return ()
    specifications = []
    for chart in charts[name]():
        specification = chart.to_dict()
        del specification["$schema"]  # an address, which nothing needs
        specifications.append(specification)
    return tuple(specifications)


def script_header() -> str:
    """First line of the script of the charts: the version of Vega-Lite that Altair writes; licences."""
    return f"/* Vega-Lite {alt.VEGALITE_VERSION}, Vega and Vega-Embed; licences in vega.LICENSES.txt */\n"


def chart_script() -> str:
    """The JavaScript that draws the charts (0.9 MB), as `dev/chart_script.py` wrote it."""
    return SCRIPT.read_text(encoding="utf-8")


def _x(column: str, title: str | None = None, domain: Sequence[float] | None = None) -> alt.X:
    """A quantitative axis along the width."""
    return alt.X(f"{column}:Q", title=title or column, scale=_scale(domain))


def _y(column: str, title: str | None = None, domain: Sequence[float] | None = None) -> alt.Y:
    """A quantitative axis along the height."""
    return alt.Y(f"{column}:Q", title=title or column, scale=_scale(domain))


def _scale(domain: Sequence[float] | None) -> alt.Scale:
    return alt.Scale(zero=False) if domain is None else alt.Scale(domain=list(domain))


def _layers(title: str, rows: pd.DataFrame) -> alt.X:
    axis = alt.Axis(values=layer_ticks(rows.layer), format="d")
    return alt.X("layer:Q", title=title, axis=axis)


def _tooltip(**formats: str) -> list[alt.Tooltip]:
    """Values that are shown where a reader points, with their formats; a text has an empty one."""
    return [
        alt.Tooltip(f"{column}:Q", format=form, title=column.replace("_", " "))
        if form
        else alt.Tooltip(f"{column}:N")
        for column, form in formats.items()
    ]


def _colour(column: str, names: Sequence[str], colours: Sequence[str] | None = None) -> alt.Color:
    palette = colours or sns.color_palette("colorblind", len(names)).as_hex()
    scale = alt.Scale(domain=list(names), range=list(palette))
    return alt.Color(f"{column}:N", scale=scale, legend=alt.Legend(title=None, orient="bottom", columns=2))


def _hex(colour: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * share):02x}" for share in colour[:3])


def _finish(chart: Any, width: int = _WIDTH, height: int = _HEIGHT) -> alt.Chart | alt.LayerChart:
    """A chart with its size and the fonts of the page."""
    return (
        chart.properties(width=width, height=height)
        .configure(font="system-ui, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(labelFontSize=_FONT, titleFontSize=_FONT, titleFontWeight="normal", grid=False)
        .configure_legend(labelFontSize=_FONT, labelLimit=220, symbolOpacity=1)
        .configure_title(fontSize=_FONT, fontWeight="normal")
    )
