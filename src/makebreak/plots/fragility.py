"""Figures of what predicts that safety breaks: a ranking, R² for left-out mechanisms, all associations."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from makebreak.claims import NotRun
from makebreak.errors import InvalidInput
from makebreak.fragility.grid import BASELINES, orientation
from makebreak.plots.fragility_names import (
    mechanism_name,
    outcome_name,
    predictor_name,
    predictor_set_name,
    qualified_models,
)

LEVEL = 0.05
"""Level of Holm's adjusted p at which a marker is filled and a cell is marked."""
_BASELINE, _SETS, _SINGLE = (sns.color_palette("colorblind")[i] for i in (1, 2, 0))
_LOWEST_R2 = -0.5
"""R² below which the axis ends."""
_ROW = 0.2
"""Height of a row of a ranking, in inches."""


def orient_associations(associations: pd.DataFrame) -> pd.DataFrame:
    """Associations as evidence for what is claimed, those with the largest correlation first.

    Args:
        associations: Columns predictor, outcome, claim, rank_correlation, low, high, partial_correlation,
            partial_low, partial_high.

    Returns:
        The rows with a rank correlation, with the further columns strength, strength_low, strength_high,
        partial_strength, partial_strength_low and partial_strength_high: correlations and their intervals,
        positive if a larger predictor goes with safety as robust as is claimed. Without a claim the
        correlation's sign is taken for the claim, so that no strength is negative.
    """
    rows = associations[associations.rank_correlation.notna()].copy()
    sign = np.where(rows.claim != 0, np.sign(rows.claim), np.where(rows.rank_correlation < 0, -1, 1))
    for new, old in {"strength": "", "partial_strength": "partial_"}.items():
        middle, ends = ("rank_correlation", ["low", "high"]) if not old else (
            "partial_correlation", ["partial_low", "partial_high"])  # fmt: skip
        low, high = (sign * rows[end].astype(float) for end in ends)
        rows[new] = sign * rows[middle].astype(float)
        rows[f"{new}_low"], rows[f"{new}_high"] = np.minimum(low, high), np.maximum(low, high)
    return rows.sort_values("strength", ascending=False, kind="stable").reset_index(drop=True)


def plot_predictor_ranking(associations: pd.DataFrame, predictions: pd.DataFrame, outcome: str) -> Axes:
    """Predictors ranked by their rank correlation with an outcome in the direction that is claimed for them.

    Lines are 95 % intervals over seeds; a marker is filled if Holm's adjusted p is below .05, and a diamond
    if no direction is claimed, where the absolute value is shown. The dashed line is the best of the cheap
    baselines. Numbers at the right are R² for left-out mechanisms from the predictor alone.

    Args:
        associations: Rows of one world and stage.
        predictions: Predictions for left-out mechanisms, of the same world and stage.
        outcome: Name of the outcome.

    Returns:
        The Axes.

    Raises:
        NotRun: If no predictor has a rank correlation with the outcome.
        InvalidInput: If there is more than one world or stage.
    """
    rows = orient_associations(_select(associations, outcome))
    if rows.empty:
        raise NotRun(f"associations with {outcome}")
    r2 = _select(predictions, outcome).set_index("predictors").r2
    _, ax = plt.subplots(figsize=(5.4, 1.3 + _ROW * len(rows)), layout="constrained")
    for y, (_, row) in enumerate(rows.iterrows()):
        colour = _BASELINE if row.predictor in BASELINES else _SINGLE
        ax.hlines(y, row.strength_low, row.strength_high, color=colour, linewidth=1)
        fill, marker = colour if row.p_holm < LEVEL else "white", "D" if row.claim == 0 else "o"
        ax.plot(row.strength, y, marker, color=colour, markerfacecolor=fill, markersize=4.5)
        value = r2.get(row.predictor, np.nan)
        text = "–" if pd.isna(value) else f"{value:.2f}".replace("-", "−")
        ax.text(1.08, y, text, transform=ax.get_yaxis_transform(), ha="right", va="center", fontsize=7)
    ax.text(1.08, 1.0, "R²", transform=ax.transAxes, ha="right", va="bottom", fontsize=8)
    ax.axvline(0, color="black", linewidth=0.8)
    best = rows[rows.predictor.isin(BASELINES)].strength.max()
    if best == best:
        ax.axvline(best, color=_BASELINE, linestyle="--", linewidth=1, label="best baseline")
    _name_rows(ax, [predictor_name(name) for name in rows.predictor], rows.predictor.isin(BASELINES))
    ax.set_xlabel(f"rank correlation with robust safety, as claimed\n({outcome_name(outcome)})", fontsize=8.5)
    _legend(ax)
    return ax


def plot_prediction_r2(predictions: pd.DataFrame, outcome: str) -> Axes:
    """R² for left-out mechanisms: of single predictors, the cheap baselines together, and all together.

    Lines are 95 % intervals over seeds; the dashed line is that of the three baselines together. Values below
    -0.5 are shown as an arrow at the left end.

    Args:
        predictions: Rows of one world and stage.
        outcome: Name of the outcome.

    Returns:
        The Axes.

    Raises:
        NotRun: If no R² is defined.
        InvalidInput: If there is more than one world or stage.
    """
    rows = _select(predictions, outcome)
    rows = rows[rows.r2.notna()].sort_values("r2", ascending=False, kind="stable").reset_index(drop=True)
    if rows.empty:
        raise NotRun(f"predictions of {outcome}")
    _, ax = plt.subplots(figsize=(5.2, 1.1 + _ROW * len(rows)), layout="constrained")
    left = max(_LOWEST_R2, min(0.0, rows[["r2", "low"]].min().min()) - 0.03)
    for y, (_, row) in enumerate(rows.iterrows()):
        colour = _set_colour(row.predictors)
        if row.high > left:
            ax.hlines(y, max(row.low, left), row.high, color=colour, linewidth=1)
        marker = "o" if row.r2 >= left else "<"
        ax.plot(max(row.r2, left), y, marker, color=colour, markersize=4.5, clip_on=False, zorder=5)
    ax.axvline(0, color="black", linewidth=0.8)
    baselines = rows[rows.predictors == "baselines"].r2.max()
    if baselines == baselines:
        ax.axvline(
            max(baselines, left), color=_BASELINE, linestyle="--", linewidth=1, label="the three baselines"
        )
    is_bold = [colour != _SINGLE for colour in map(_set_colour, rows.predictors)]
    _name_rows(ax, [predictor_set_name(name) for name in rows.predictors], is_bold)
    ax.set_xlim(left=left)
    ax.set_xlabel(f"R² for left-out mechanisms\n({outcome_name(outcome)})", fontsize=8.5)
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=4.5, linewidth=1, label=label)
        for colour, label in ((_SINGLE, "one predictor"), (_BASELINE, "baseline"), (_SETS, "all predictors"))
    ]
    handles += [line for line in ax.lines if line.get_label() == "the three baselines"]
    _place_legend(ax, handles)
    return ax


def plot_association_matrix(associations: pd.DataFrame) -> Axes:
    """Rank correlation of every predictor with every outcome; a dot marks Holm's adjusted p below .05.

    Every outcome is turned so that a positive correlation says that a larger predictor goes with more robust
    safety. Predictors are in the order of their mean over outcomes, as claimed; an undefined cell is grey.

    Args:
        associations: Rows of one world and stage.

    Returns:
        The Axes.

    Raises:
        NotRun: If no rank correlation is defined.
        InvalidInput: If there is more than one world or stage.
    """
    _check_one_stage(associations)
    rows = orient_associations(associations)
    if rows.empty:
        raise NotRun("associations")
    order = rows.groupby("predictor").strength.mean().sort_values(ascending=False, kind="stable").index
    order = [*order, *dict.fromkeys(name for name in associations.predictor if name not in order)]
    outcomes = list(dict.fromkeys(associations.outcome))
    rows["robust"] = rows.rank_correlation * rows.outcome.map(orientation)
    values = (
        rows.pivot(index="predictor", columns="outcome", values="robust")
        .reindex(order)[[name for name in outcomes if name in set(rows.outcome)]]
        .reindex(columns=outcomes)
    )
    p = rows.pivot(index="predictor", columns="outcome", values="p_holm").reindex(order, columns=outcomes)
    _, ax = plt.subplots(figsize=(2.6 + 0.34 * len(outcomes), 1.9 + 0.19 * len(order)), layout="constrained")
    image = ax.imshow(
        values, cmap=plt.get_cmap("RdBu").with_extremes(bad="0.85"), vmin=-1, vmax=1, aspect="auto"
    )
    y, x = np.nonzero((p < LEVEL).to_numpy())
    dark = np.abs(values.to_numpy()[y, x]) > 0.6
    ax.scatter(x, y, s=7, c=["white" if each else "black" for each in dark], linewidths=0)
    _name_rows(ax, [predictor_name(name) for name in order], [name in BASELINES for name in order])
    ax.set_xticks(range(len(outcomes)), [outcome_name(name) for name in outcomes], rotation=45, ha="right",
                  rotation_mode="anchor", fontsize=7)  # fmt: skip
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.5, aspect=25)
    bar.set_label("rank correlation with robust safety", fontsize=8)
    bar.outline.set_visible(False)  # pyright: ignore
    return ax


def plot_predictor_scatter(zoo: pd.DataFrame, predictor: str, outcome: str) -> Axes:
    """One predictor and one outcome of every qualified model, coloured by mechanism.

    Args:
        zoo: One row per model, with the columns mechanism, qualifies, is_control, `predictor.NAME` and
            `outcome.NAME`.
        predictor: Name of the predictor.
        outcome: Name of the outcome.

    Returns:
        The Axes.

    Raises:
        NotRun: If no qualified model has both values.
    """
    columns = [f"predictor.{predictor}", f"outcome.{outcome}"]
    rows = qualified_models(zoo).dropna(subset=columns)
    if rows.empty:
        raise NotRun(f"{predictor} and {outcome} of qualified models")
    _, ax = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
    mechanisms = list(dict.fromkeys(rows.mechanism))
    for name, colour in zip(mechanisms, sns.color_palette("husl", len(mechanisms)), strict=True):
        part = rows[rows.mechanism == name]
        ax.plot(part[columns[0]], part[columns[1]], "o", color=colour, markersize=2.5, alpha=0.6,
                markeredgewidth=0, label=mechanism_name(name))  # fmt: skip
    ax.set(xlabel=predictor_name(predictor), ylabel=outcome_name(outcome))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=7, markerscale=2)
    return ax


def _select(table: pd.DataFrame, outcome: str) -> pd.DataFrame:
    """The rows of an outcome."""
    _check_one_stage(table)
    return table[table.outcome == outcome]


def _check_one_stage(table: pd.DataFrame) -> None:
    if len(kinds := table[["world", "stage"]].drop_duplicates()) > 1:
        names = "; ".join(f"{row.world}, {row.stage}" for row in kinds.itertuples())
        raise InvalidInput(f"rows of {names}: expected one world and stage; select the rows of one")


def _set_colour(predictors: str) -> tuple[float, ...]:
    if predictors.startswith("all,"):
        return _SETS
    return _BASELINE if predictors in (*BASELINES, "baselines") else _SINGLE


def _name_rows(ax: Axes, names: Sequence[str], is_bold: Sequence[bool] | pd.Series) -> None:
    """Names along the vertical axis, the first at the top; those of baselines and sets in bold."""
    ax.set_yticks(range(len(names)), names, fontsize=7.5)
    for label, bold in zip(ax.get_yticklabels(), is_bold, strict=True):
        label.set_fontweight("bold" if bold else "normal")
    ax.set_ylim(len(names) - 0.5, -0.5)


def _legend(ax: Axes) -> None:
    kinds = [
        (_SINGLE, "o", _SINGLE, "predictor, p (Holm) < .05"),
        (_SINGLE, "o", "white", "p (Holm) ≥ .05"),
        (_BASELINE, "o", _BASELINE, "cheap baseline"),
        (_SINGLE, "D", "white", "no direction claimed: absolute value"),
    ]
    handles = [
        Line2D(
            [],
            [],
            color=colour,
            marker=marker,
            markerfacecolor=fill,
            markersize=4.5,
            linewidth=1,
            label=label,
        )
        for colour, marker, fill, label in kinds
    ]
    _place_legend(ax, handles + [line for line in ax.lines if line.get_label() == "best baseline"])


def _place_legend(ax: Axes, handles: Sequence[Line2D]) -> None:
    ax.figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=7)  # pyright: ignore
