"""Tables, figures and sentences of the study's report."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from experiments.fragility.claims import OUTCOME, PUBLISHED
from experiments.fragility.fine_tuning import RATES
from experiments.fragility.language.presets import PREDICTOR_NAMES as LANGUAGE_PREDICTORS
from experiments.fragility.language.presets import LanguagePreset
from experiments.fragility.mechanisms import MECHANISMS
from experiments.fragility.predictors import PREDICTORS
from experiments.fragility.presets import Preset
from experiments.fragility.zoo import zoo_table
from makebreak.claims import ClaimRow, Tables, format_finding, rows_of
from makebreak.plots import plot_association_matrix, plot_prediction_r2, plot_predictor_ranking
from makebreak.studies import Figure


def counts(tables: Tables) -> pd.DataFrame:
    """Qualified models by mechanism, of all that were trained."""
    zoo = rows_of(tables, "zoo")
    by_mechanism = zoo.groupby(["world", "mechanism"], sort=False)
    table = by_mechanism.agg(
        n_trained=("qualifies", "size"),
        n_qualified=("qualifies", "sum"),
        refusal_rate=("refusal_rate", "mean"),
        safe_compliance_rate=("safe_compliance_rate", "mean"),
        over_refusal_rate=("over_refusal_rate", "mean"),
    )
    return table.reset_index()


DERIVED = {
    "zoo": zoo_table,
    "counts": counts,
}
"""Tables by name, in the order in which they are computed."""
SUMMARIES = {
    "Models by mechanism": lambda tables: rows_of(tables, "counts"),
    "Association of every predictor with every outcome": lambda tables: rows_of(tables, "associations"),
    "Prediction of left-out mechanisms": lambda tables: rows_of(tables, "predictions"),
    "Difference of SSFT from its controls": lambda tables: rows_of(tables, "controls"),
}
"""Tables of the report by title."""


def draw_ranking(tables: Tables, preset: Preset) -> Axes:
    """Predictors in the order of their association with the claims' outcome."""
    return plot_predictor_ranking(*_of_last_stage(tables), OUTCOME)


def draw_r2(tables: Tables, preset: Preset) -> Axes:
    """Prediction of left-out mechanisms by every set of predictors."""
    return plot_prediction_r2(_of_last_stage(tables)[1], OUTCOME)


def draw_matrix(tables: Tables, preset: Preset) -> Axes:
    """Association of every predictor with every outcome."""
    return plot_association_matrix(_of_last_stage(tables)[0])


def _of_last_stage(tables: Tables) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Associations and predictions of the confirmatory stage, or of the exploratory one alone."""
    pair = rows_of(tables, "associations"), rows_of(tables, "predictions")
    stages = set(pair[0].stage)
    stage = "confirmatory" if "confirmatory" in stages else "exploratory"
    associations, predictions = (table[table.stage == stage] for table in pair)
    return associations, predictions


_STATISTICS = ("associations", "predictions")
FIGURES = (
    Figure(
        "ranking",
        "Predictors by their association with compliance after harmful fine-tuning",
        "Spearman correlation within seed and dose, mean over doses and seeds, in the direction "
        "that the predictor claims (open markers: no claim, absolute value); bars are 95 % Student intervals "
        "over seeds. Filled: p < .05 after Holm's adjustment over all predictors and outcomes, in "
        "permutations of whole trajectories. The line is the best of the three cheap baselines.",
        draw_ranking,
        requires=_STATISTICS,
    ),
    Figure(
        "r2",
        "Prediction of mechanisms that were not used to fit",
        "R² of the ranks of compliance after harmful fine-tuning, leave one mechanism out, with 95 % "
        "bootstrap intervals over seeds.",
        draw_r2,
        requires=_STATISTICS,
        claims=("F1", "F2"),
    ),
    Figure(
        "associations",
        "Association of every predictor with every outcome",
        "Spearman correlation within seed and dose; marked cells have p < .05 after Holm's adjustment.",
        draw_matrix,
        requires=_STATISTICS,
    ),
)
"""Figures of the report."""


def answer(claims: Mapping[str, ClaimRow]) -> list[str]:
    """The answer to the study's question.

    Args:
        claims: Evaluated claims by id.

    Returns:
        Sentences.
    """
    parts = [row for row in claims.values() if row.role == "part" and row.verdict != "not run"]
    supported, contradicted = (
        [row.id.removeprefix("F.") for row in parts if row.verdict == verdict]
        for verdict in ("supported", "contradicted")
    )
    return [
        f"R² of the three cheap numbers on mechanisms not used to fit: {format_finding(claims['F1'])}; the "
        f"gain of all predictors over them: {format_finding(claims['F2'])}.",
        "Partial correlation with compliance after harmful fine-tuning, given margin and norm of the update: "
        + "; ".join(f"{name} {format_finding(claims[f'F{i}'])}" for i, name in enumerate(PUBLISHED, start=3))
        + ".",
        f"Of {len(parts)} predictors with a claimed direction, {len(supported)} go with robustness as "
        f"claimed ({', '.join(supported) or 'none'}) and {len(contradicted)} the other way "
        f"({', '.join(contradicted) or 'none'}); these verdicts are not corrected for their number.",
    ]


def facts(preset: Preset | LanguagePreset, world: str) -> dict[str, str]:
    """What was run.

    Args:
        preset: Sizes of the study.
        world: Name of the world.

    Returns:
        Descriptions by name.
    """
    is_language = isinstance(preset, LanguagePreset)
    controls = [] if is_language else [name for name in preset.mechanisms if MECHANISMS[name].is_control]
    methods = [name for name in preset.mechanisms if name not in controls]
    doses = preset.doses if is_language else preset.schedule(world).doses
    predictors = LANGUAGE_PREDICTORS if is_language else tuple(PREDICTORS)
    rates = preset.fine_tuning.rates if is_language else RATES
    sizes = preset.fine_tuning
    models = preset.model if is_language else f"world {world}"
    return {
        "models": f"{models}: {', '.join(methods)}; controls: {', '.join(controls) or 'none'}; doses: "
        f"{', '.join(map(str, doses))} steps",
        "predictors": f"{len(predictors)}: {', '.join(predictors)}",
        "fine-tuning attacks": f"{sizes.harmful_steps[-1]} steps of harmful data, "
        f"{sizes.other_steps[-1]} of other data, {sizes.batch_size} requests each, "
        f"learning rates {', '.join(f'{rate:g}' for rate in rates)}, of which the best counts that keeps "
        "nine tenths of the safe answers",
    }
