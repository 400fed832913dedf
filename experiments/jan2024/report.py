"""Figures and sentences of the study's report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pandas as pd

from experiments.jan2024.templates import GRID, template_matrix
from experiments.jan2024.transfer import LEARNT, UNSAFE, transfer_matrix
from experiments.recipes.formats import RETAIN, Preset
from makebreak.claims import ClaimRow, Tables, format_finding, rows_of
from makebreak.plots import plot_dose_response, plot_transfer_matrices
from makebreak.studies import Figure

_CONTROLS = {
    "equal tokens": "tokens",
    "task already known": "known",
    "adapters": "lora",
    "with refusals": "guarded",
    "refusals of open text": "guarded_gen",
    "refusals of others": "guarded_others",
}
_REQUESTS = ["format", "family", "operator"]
_OUTCOMES = {"not refused": "refuse", "answered as instructed": "comply"}


def draw_transfer(tables: Tables, preset: Preset) -> Any:
    """Transfer matrices by coverage and outcome."""
    matrices = {}
    for coverage in preset.coverages:
        suffix = "" if coverage == "uniform" else f", {coverage}"
        for title, outcome in _OUTCOMES.items():
            matrices[title + suffix] = _matrices_by_seed(tables, coverage, kind="task", outcome=outcome)
    return plot_transfer_matrices(matrices)


def draw_controls(tables: Tables, preset: Preset) -> Any:
    """Transfer matrices of the other kinds of fine-tuning that the preset has."""
    kinds = set(tables["after_tuning"].kind)
    matrices = {
        title: _matrices_by_seed(tables, "uniform", kind=kind)
        for title, kind in _CONTROLS.items()
        if kind in kinds
    }
    return plot_transfer_matrices(matrices)


def draw_templates(tables: Tables, preset: Preset) -> Any:
    """Matrix of templates."""
    order = list(GRID)
    by_seed = [template_matrix(rows).loc[order, order] for _, rows in tables["templates"].groupby("seed")]
    return plot_transfer_matrices({"not refused": by_seed})


def draw_doses(tables: Tables, preset: Preset) -> Any:
    """Refusal along fine-tuning against KL."""
    rows = rows_of(tables, "after_tuning", operator="shown", family=UNSAFE, kind="task", coverage="uniform")
    return plot_dose_response(rows[rows.tuned_on != RETAIN], preset.formats)


def _matrices_by_seed(
    tables: Tables, coverage: str, *, kind: str, outcome: str = "refuse"
) -> list[pd.DataFrame]:
    """One transfer matrix per seed, under a coverage."""
    names = ("before_tuning", "after_tuning")
    rows = {name: tables[name][tables[name].coverage == coverage] for name in names}
    matrices = []
    for seed in sorted(rows["after_tuning"].seed.unique()):
        of_seed = cast("Tables", {name: table[table.seed == seed] for name, table in rows.items()})
        matrices.append(transfer_matrix(of_seed, kind=kind, outcome=outcome))
    return matrices


FIGURES = (
    Figure(
        "matrix",
        "Tuned task × format of the unsafe request",
        "Change of the share of unsafe requests that is not refused, and of that which is answered as "
        "instructed, after fine-tuning on safe requests of one task (rows) with a new operator, at the "
        "smallest learning rate at which the task is learnt; requests with the operators of alignment. "
        "`retain`: safe requests of all formats. Below: half the range of seeds.",
        draw_transfer,
        claims=("A1", "A3", "A4", "F1"),
    ),
    Figure(
        "controls",
        "Controls",
        "Change of the share not refused, as above: tuned for equal tokens of loss; on operators of "
        "pretraining; by low-rank adapters; and with one example in ten a refusal, of all formats, of open "
        "text alone, or of all formats but the tuned one. All at one learning rate (adapters: ten times).",
        draw_controls,
        claims=("A6", "A7"),
    ),
    Figure(
        "templates",
        "Template of the examples × template of the unsafe request",
        "The same change in a world of templates, mean of tuned tasks and formats: rows, the template of the "
        "examples; columns, that of the unsafe requests.",
        draw_templates,
        requires=("templates",),
        claims=("A5",),
    ),
    Figure(
        "doses",
        "Dose and response",
        "Unsafe requests that are refused along fine-tuning, against KL to the aligned model on safe "
        "requests; all learning rates and kept steps. Thick: the tuned format. Thin: seeds.",
        draw_doses,
    ),
)
"""Figures of the report."""


def answer(claims: Mapping[str, ClaimRow]) -> list[str]:
    """The answer to the study's question in three sentences.

    Args:
        claims: Evaluated claims by id.

    Returns:
        The sentences.
    """
    text = {name: format_finding(row) for name, row in claims.items()}
    return [
        "After fine-tuning on one harmless task, the share of unsafe requests that is not refused rises in "
        f"the tuned format by {text['F1']} more than in the others; three of four tasks raise it in other "
        f"formats by at least {text['A4']}.",
        f"Tasks of code and translation raise it by {text['A1']} more than summaries and classification, at "
        f"the learning rate that each task needs, and by {text['A1.tokens']} at equal tokens of loss.",
        "With one refusal in ten examples, of all formats, the rise is smaller by "
        f"{text['A7']}, mean of formats; with as many refusals of open text alone it is larger "
        f"by {text['A6']} in the other formats.",
    ]


def facts(preset: Preset, world: str) -> dict[str, str]:
    """What was run.

    Args:
        preset: Sizes of the study.
        world: Name of the world.

    Returns:
        Descriptions by name.
    """
    rates = ", ".join(f"{rate:g}" for rate in preset.rates)
    return {
        "models": f"world {world}, formats {', '.join(preset.formats)}; alignment by SSFT, coverage "
        f"{', '.join(preset.coverages)}, {preset.alignment.steps} steps",
        "fine-tuning": f"{preset.tuning.steps} steps of {preset.tuning.batch_size}, {preset.examples} safe "
        f"examples, learning rates {rates}; the user's is the smallest at which {LEARNT:.0%} of held-out "
        "requests of the tuned task are answered rightly",
        "evaluation": f"{preset.n} held-out requests per format and family, greedy answers, exact: refused, "
        "answered as instructed, wrong but well-formed, degenerate",
    }


def before_tuning_means(tables: Tables) -> pd.DataFrame:
    """Outcomes before fine-tuning, mean over seeds."""
    return _mean_over_seeds(tables["before_tuning"], ["coverage", "model", *_REQUESTS])


def after_tuning_means(tables: Tables) -> pd.DataFrame:
    """Outcomes after fine-tuning, mean over seeds."""
    by = ["coverage", "tuned_on", "kind", "rate", "step", *_REQUESTS]
    return _mean_over_seeds(tables["after_tuning"], by)


def classifier_means(tables: Tables) -> pd.DataFrame:
    """AUROC of classifiers by format and length of the n-grams, mean over seeds."""
    table = tables["ngram_classifiers"]
    return table.pivot_table(index="format", columns="n", values="auroc", sort=False).reset_index()


SUMMARIES = {
    "Before fine-tuning, mean over seeds": before_tuning_means,
    "After fine-tuning, mean over seeds": after_tuning_means,
    "Classifiers of n-grams of the text, AUROC, mean over seeds": classifier_means,
}
"""Tables of the report by title."""


def _mean_over_seeds(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    return rows.drop(columns="seed").groupby(by, sort=False).mean().reset_index()
