"""Tables, figures and sentences of the study's report."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from experiments.fragility.claims import PUBLISHED
from experiments.fragility.fine_tuning import RATES
from experiments.fragility.mechanisms import MECHANISMS
from experiments.fragility.predictors import PREDICTORS
from experiments.fragility.presets import Preset
from experiments.fragility.zoo import zoo_table
from makebreak.claims import ClaimRow, Tables, format_finding, rows_of
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
    "Models by mechanism": counts,
    "Association of every predictor with every outcome": lambda tables: rows_of(tables, "associations"),
    "Prediction of left-out mechanisms": lambda tables: rows_of(tables, "predictions"),
}
"""Tables of the report by title."""
FIGURES: tuple[Figure, ...] = ()
"""Figures of the report."""


def answer(claims: Mapping[str, ClaimRow]) -> list[str]:
    """The answer to the study's question.

    Args:
        claims: Evaluated claims by id.

    Returns:
        Sentences.
    """
    parts = [row for row in claims.values() if row.role == "part"]
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


def facts(preset: Preset, world: str) -> dict[str, str]:
    """What was run.

    Args:
        preset: Sizes of the study.
        world: Name of the world.

    Returns:
        Descriptions by name.
    """
    controls = [name for name in preset.mechanisms if MECHANISMS[name].is_control]
    methods = [name for name in preset.mechanisms if name not in controls]
    rates = ", ".join(f"{rate:g}" for rate in RATES)
    return {
        "models": f"world {world}: {', '.join(methods)}; controls: {', '.join(controls)}; doses: "
        f"{', '.join(map(str, preset.doses))} steps",
        "predictors": f"{len(PREDICTORS)}: {', '.join(PREDICTORS)}",
        "fine-tuning attacks": f"{preset.fine_tuning.harmful_steps[-1]} steps of harmful data, "
        f"{preset.fine_tuning.other_steps[-1]} of other data, {preset.fine_tuning.batch_size} requests each, "
        f"learning rates {rates}, of which the best counts that keeps nine tenths of the safe answers",
    }
