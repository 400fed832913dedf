"""Page that ranks the predictors of fragile safety: summary, ranking, figures, every model in one chart."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from makebreak.characters import escape_hidden
from makebreak.fragility.controls import control_table
from makebreak.fragility.grid import orientation
from makebreak.plots.fragility import (
    LEVEL,
    orient_associations,
    plot_association_matrix,
    plot_prediction_r2,
    plot_predictor_ranking,
    plot_predictor_scatter,
)
from makebreak.plots.fragility_names import (
    outcome_name,
    predictor_name,
    predictor_set_name,
    qualified_models,
)
from makebreak.plots.fragility_worlds import plot_world_agreement
from makebreak.plots.interactive_fragility import chart_predictor_scatter
from makebreak.report.figures import write_figures
from makebreak.report.leaderboard_text import deciding_rows, leaderboard_summary
from makebreak.report.page import Page, write_page

TITLE = "Which measures predict that safety breaks?"
_CLAIMS = {1: "more robust", -1: "more fragile", 0: "none"}
"""What a larger predictor is claimed to mean."""
_CAPTIONS: dict[str, tuple[str, str]] = {
    "ranking": (
        "Predictors ranked",
        "Rank correlation within seed and dose, positive if safety is as robust as the predictor "
        "is claimed to say; lines are 95 % intervals over seeds. Diamonds are predictors without a claim, of "
        "which the absolute value is shown, so that chance alone puts them above zero. The dashed line is "
        "the best cheap baseline. R² is that of the predictor alone, for mechanisms that were left out.",
    ),
    "r2": (
        "Prediction for left-out mechanisms",
        "R² against the mean of the other mechanisms: zero is no better than that mean. Lines are 95 % "
        "bootstrap intervals over seeds; the dashed line is the three baselines together. An arrow at the "
        "left end is a value below the axis.",
    ),
    "matrix": (
        "What each predictor predicts",
        "Rank correlation of every predictor with every outcome. Blue: a larger predictor goes with more "
        "robust safety, whatever was claimed. A dot marks p < .05 after Holm's adjustment over all cells; "
        "grey cells are undefined. Predictors are in the order of their mean correlation as claimed.",
    ),
    "worlds": (
        "Two worlds",
        "Rank correlation of every predictor with robust safety, whatever was claimed: positive if models "
        "with larger values keep more of it. Lines are 95 % intervals over seeds; points on the diagonal "
        "have equal correlations. The cosine similarity of both does not depend on the sign by which a "
        "predictor is defined; 0 is expected where the worlds have nothing in common.",
    ),
}
_COLUMNS = {
    "strength": "correlation as claimed",
    "strength_low": "low",
    "strength_high": "high",
    "p_holm": "p (Holm)",
    "partial_strength": "given margin and ΔW",
    "partial_strength_low": "low, given",
    "partial_strength_high": "high, given",
    "r2": "R², left-out mechanisms",
    "n_models": "models",
    "n_seeds": "seeds",
}
"""Columns of the ranking, and their headings."""


def write_leaderboard(
    zoo: pd.DataFrame,
    associations: pd.DataFrame,
    predictions: pd.DataFrame,
    path: Path,
    folder: Path,
    outcome: str = "harmful.steps_to_half",
) -> Path:
    """Writes the page and its figures.

    Args:
        zoo: One row per model: world, seed, mechanism, dose, is_control, qualifies, `predictor.NAME`,
            `outcome.NAME`.
        associations: Every predictor with every outcome, by world and stage.
        predictions: Predictions of every outcome for left-out mechanisms, by world and stage.
        path: The HTML file to write.
        folder: The folder of the figures.
        outcome: Name of the outcome that is ranked. If it has no rank correlation, the first one that has is.

    Returns:
        The HTML file.
    """
    known = deciding_rows(associations)
    known = known[known.rank_correlation.notna()]
    if outcome not in set(known.outcome):
        outcome = next(iter(known.outcome), outcome)
    drawings: dict[str, Callable[[], Any]] = {}
    captions: dict[str, tuple[str, str]] = {}
    expanded: dict[str, pd.DataFrame] = {}
    tables: dict[str, pd.DataFrame] = {}
    for (world, stage), _ in known.groupby(["world", "stage"], sort=False):
        rows, own = (
            table[(table.world == world) & (table.stage == stage)] for table in (associations, predictions)
        )
        expanded[f"Ranking: {outcome_name(outcome)}, world {world}, {stage}"] = _ranking(
            associations[associations.world == world], str(stage), outcome
        )
        draw = {
            "ranking": partial(plot_predictor_ranking, rows, own, outcome),
            "r2": partial(plot_prediction_r2, own, outcome),
            "matrix": partial(plot_association_matrix, rows),
        }
        for name, function in draw.items():
            title, caption = _CAPTIONS[name]
            what = "" if name == "matrix" else f"{outcome_name(outcome)}, "
            drawings[f"{name}_{world}"] = function
            captions[f"{name}_{world}"] = (f"{title}: {what}world {world}, {stage}", caption)
    worlds = list(dict.fromkeys(known[known.outcome == outcome].world))
    for first, second in itertools.combinations(worlds, 2):
        title, caption = _CAPTIONS["worlds"]
        name = f"worlds_{first}_{second}"
        drawings[name] = partial(plot_world_agreement, known, outcome, (first, second))
        captions[name] = (f"{title}: {outcome_name(outcome)}, {first} and {second}", caption)
    if not known.empty:
        tables["What each predictor predicts"] = _predictions_by_predictor(known)
    best = [name for name in _predictors_in_order(known, outcome) if f"predictor.{name}" in zoo]
    outcomes = [name for name in dict.fromkeys([outcome, *known.outcome]) if f"outcome.{name}" in zoo]
    if best and outcomes:
        drawings["models"] = partial(plot_predictor_scatter, zoo, best[0], outcomes[0])
        captions["models"] = ("Every model", _scatter_caption(zoo))
    charts = {"models": partial(chart_predictor_scatter, zoo, outcomes, best)}
    page = Page(
        title=TITLE,
        summary=leaderboard_summary(zoo, associations, predictions, outcome),
        facts=_facts(zoo, associations),
        figures=write_figures(drawings, captions, folder, charts),
        tables=tables | _controls(zoo) | _tables(associations, predictions),
        expanded=expanded,
    )
    return write_page(page, path)


def _ranking(associations: pd.DataFrame, stage: str, outcome: str) -> pd.DataFrame:
    """The ranking of the predictors of a world, with those that have no rank correlation at the end."""
    rows = associations[associations.outcome == outcome]
    own = rows[rows.stage == stage]
    ranked = orient_associations(own)
    undefined = own[own.rank_correlation.isna()]
    table = pd.concat([ranked, undefined.reindex(columns=ranked.columns)]) if len(undefined) else ranked
    result = pd.DataFrame(
        {
            "rank": [*range(1, len(ranked) + 1), *[None] * len(undefined)],
            "predictor": [_text(predictor_name(name)) for name in table.predictor],
            "claim: larger means": _claims(table, outcome),
        },
        dtype=object,
    )
    for column, heading in _COLUMNS.items():
        result[heading] = table[column].to_numpy()
    other = orient_associations(rows[rows.stage != stage]).set_index("predictor").strength
    if not other.empty:
        result["correlation, exploratory"] = [other.get(name) for name in table.predictor]
    return result


def _claims(table: pd.DataFrame, outcome: str) -> list[str]:
    """What a larger value of each predictor is claimed to mean."""
    return [_CLAIMS[int(claim) * orientation(outcome)] for claim in table.claim]


def _predictions_by_predictor(associations: pd.DataFrame) -> pd.DataFrame:
    """The outcomes that each predictor is associated with as claimed, against the claim, and not at all."""
    rows = []
    keys = ["world", "stage", "predictor"]
    for (world, stage, predictor), part in orient_associations(associations).groupby(keys, sort=False):
        shown = part.p_holm < LEVEL
        contrary = (part.claim != 0) & (part.strength_high < 0)
        groups = {
            "associated (p < .05, Holm)": part[shown],
            "against the claim (interval below 0)": part[contrary & ~shown],
            "neither": part[~shown & ~contrary],
        }
        names = {
            title: "; ".join(_text(outcome_name(name)) for name in group.outcome) or "–"
            for title, group in groups.items()
        }
        rows.append(
            {
                "world": world,
                "stage": stage,
                "predictor": _text(predictor_name(str(predictor))),
                "outcomes": int(shown.sum()),
            }
            | names
        )
    return pd.DataFrame(rows).sort_values("outcomes", ascending=False, kind="stable")


def _predictors_in_order(associations: pd.DataFrame, outcome: str) -> list[str]:
    """Predictors with a rank correlation, those first that are best for the outcome in the first world."""
    ranked = orient_associations(associations[associations.outcome == outcome])
    return list(dict.fromkeys([*ranked.predictor, *associations.predictor]))


def _scatter_caption(zoo: pd.DataFrame) -> str:
    n = len(qualified_models(zoo))
    return (
        f"One point per qualified model ({n:,} models, controls left out), at the values themselves: not "
        "ranks within seed and dose, so that a trend over all points may be one of doses, seeds or worlds. "
        "In a browser, the lists choose the predictor, the outcome and the world, a click on a mechanism "
        "shows it alone, and the values of a model are shown where you point. Steps that a bound on "
        "training cut off are all at the largest value."
    )


def _facts(zoo: pd.DataFrame, associations: pd.DataFrame) -> dict[str, str]:
    rows = qualified_models(zoo)
    return {
        "models": f"{len(zoo):,}, of which {len(rows):,} qualify and are no controls",
        "worlds": ", ".join(dict.fromkeys(zoo.world)) or "none",
        "stages": ", ".join(dict.fromkeys(associations.stage)) or "none",
        "predictors": str(associations.predictor.nunique()),
        "outcomes": str(associations.outcome.nunique()),
    }


def _controls(zoo: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Predictors on SSFT beside their values on the controls that were trained as long."""
    rows = control_table(zoo)
    if rows.empty:
        return {}
    names = [_text(predictor_name(name)) for name in rows.predictor]
    title = "SSFT minus controls of equal training, in standard deviations over the models of a seed"
    return {title: rows.assign(predictor=names)}


def _tables(associations: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Every row of both tables, by world and stage."""
    tables = {}
    for (world, stage), rows in associations.groupby(["world", "stage"], sort=False):
        words = rows.assign(
            predictor=[_text(predictor_name(name)) for name in rows.predictor],
            outcome=[_text(outcome_name(name)) for name in rows.outcome],
        )
        tables[f"Associations, world {world}, {stage} ({len(rows)})"] = words.drop(columns=["world", "stage"])
    for (world, stage), rows in predictions.groupby(["world", "stage"], sort=False):
        words = rows.assign(
            outcome=[_text(outcome_name(name)) for name in rows.outcome],
            predictors=[_text(predictor_set_name(name)) for name in rows.predictors],
        )
        title = f"Predictions for left-out mechanisms, world {world}, {stage} ({len(rows)})"
        tables[title] = words.drop(columns=["world", "stage"])
    return tables


def _text(name: str) -> str:
    """A name for a page: without the escapes of figures."""
    return escape_hidden(name.replace(r"\$", "$"))
