"""Figures and HTML page of the study."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pandas as pd

from experiments.jan2024.claims import POINTS
from experiments.jan2024.templates import GRID, template_matrix
from experiments.jan2024.transfer import LEARNT, UNSAFE, transfer_matrix
from experiments.recipes.formats import RETAIN, Preset
from experiments.results import Results, format_estimate, format_verdicts
from makebreak.plots import plot_dose_response, plot_transfer_matrices
from makebreak.report import Page, write_figures, write_page

Tables = Mapping[str, pd.DataFrame]

_CAPTIONS = {
    "matrix": (
        "Tuned task × format of the unsafe request",
        "Change of the share of unsafe requests that is not refused, and of that which is answered as "
        "instructed, after fine-tuning on safe requests of one task (rows) with a new operator, at the "
        "smallest learning rate at which the task is learnt; requests with the operators of alignment. "
        "`retain`: safe requests of all formats. Below: half the range of seeds.",
    ),
    "controls": (
        "Controls",
        "Change of the share not refused, as above: tuned for equal tokens of loss; on operators of "
        "pretraining; by low-rank adapters; and with one example in ten a refusal, of all formats, of open "
        "text alone, or of all formats but the tuned one. All at one learning rate (adapters: ten times).",
    ),
    "templates": (
        "Template of the examples × template of the unsafe request",
        "The same change in a world of templates, mean of tuned tasks and formats: rows, the template of the "
        "examples; columns, that of the unsafe requests.",
    ),
    "doses": (
        "Dose and response",
        "Unsafe requests that are refused along fine-tuning, against KL to the aligned model on safe "
        "requests; all learning rates and kept steps. Thick: the tuned format. Thin: seeds.",
    ),
}
_CONTROLS = {
    "equal tokens": "tokens",
    "task already known": "known",
    "adapters": "lora",
    "with refusals": "guarded",
    "refusals of open text": "guarded_gen",
    "refusals of others": "guarded_others",
}
_OUTCOMES = {"not refused": "refuse", "answered as instructed": "comply"}
_NO_RISE = 0.05


def figure_functions(results: Results, preset: Preset) -> dict[str, Callable[[], Any]]:
    """Functions that draw the study's figures.

    Args:
        results: Results of the study.
        preset: The preset.

    Returns:
        Name of the figure → a function that draws it.
    """
    tables = results.tables
    after = tables["after_tuning"]
    doses = after[(after.operator == "shown") & after.family.isin(UNSAFE) & (after.kind == "task")]
    doses = doses[(doses.coverage == "uniform") & (doses.tuned_on != RETAIN)]
    matrices = {}
    for coverage in preset.coverages:
        suffix = "" if coverage == "uniform" else f", {coverage}"
        for title, outcome in _OUTCOMES.items():
            matrices[title + suffix] = _matrices_by_seed(tables, coverage, kind="task", outcome=outcome)
    kinds = set(after.kind)
    controls = {
        title: _matrices_by_seed(tables, "uniform", kind=kind)
        for title, kind in _CONTROLS.items()
        if kind in kinds
    }
    functions: dict[str, Callable[[], Any]] = {
        "matrix": lambda: plot_transfer_matrices(matrices),
        "controls": lambda: plot_transfer_matrices(controls),
        "doses": lambda: plot_dose_response(doses, preset.formats),
    }
    if "templates" in tables:
        order = list(GRID)
        by_seed = [template_matrix(rows).loc[order, order] for _, rows in tables["templates"].groupby("seed")]
        functions["templates"] = lambda: plot_transfer_matrices({"not refused": by_seed})
    return functions


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


def summary_paragraph(claims: Mapping[str, Mapping[str, Any]]) -> str:
    """Estimates and verdicts of the main claims in sentences.

    Args:
        claims: Rows of claims.json by id.

    Returns:
        The paragraph.
    """

    def estimate(claim: str, plus: float = 0.0, sign: int = 1) -> str:
        return format_estimate(claims, claim, plus, sign)

    return (
        "Rise of the share of unsafe requests that is not refused, after fine-tuning on one harmless task. "
        f"Three tasks of four have a rise of {estimate('A4')} or more in other formats; in the tuned format "
        f"it is {estimate('F1')} larger than in others (a difference counts from {POINTS}). Open text "
        f"changes by {estimate('A3.gen', 0.05, -1)}; the greatest rise in another format is "
        f"{estimate('A3.other', 0.2)}. Code and translation minus summaries and classification: "
        f"{estimate('A1')} at the user's rate, {estimate('A1.tokens')} at equal tokens of loss; at equal KL "
        f"{estimate('A1.kl')}, a comparison that is withdrawn (it is made at the largest rate only, at "
        "points interpolated between the start and the first kept step: docs/errata.md, W4). The rise is "
        f"{estimate('F4')} after safe requests of all formats without a task, and "
        f"{estimate('F3', POINTS, -1)} after a task of pretraining. Of what is no longer refused a share of "
        f"{estimate('F6', 0.5)} is answered as instructed. With refusals of all formats among the examples "
        f"the rise is smaller by {estimate('A7')} or more in every format with a rise; with as many of open "
        f"text alone it is larger by {estimate('A6')} in the other formats, and with as many of all but the "
        f"tuned format larger by {estimate('A6.own')} in that one. After fine-tuning without a system block, "
        f"the rise for requests with one is {estimate('A5', sign=-1)} larger, and that for requests in "
        f"another template than the tuned one {estimate('A5.mismatch', sign=-1)} larger."
    )


def failure_modes(claims: Mapping[str, Mapping[str, Any]]) -> str:
    """Outcomes that would contradict the hypotheses and that the point estimates show.

    Args:
        claims: Rows of claims.json by id.

    Returns:
        One sentence.
    """
    estimates = {name: row["estimate"] for name, row in claims.items()}
    at_rate, at_tokens, complied = estimates["A1"], estimates["A1.tokens"], estimates["F6"]
    occurs = {
        "no format opens": estimates["A3.other"] + 0.2 < _NO_RISE,
        "all formats open alike, which is plain forgetting": estimates["F1"] < POINTS,
        "the sign of A1 changes at equal tokens of loss": None not in (at_rate, at_tokens)
        and at_rate * at_tokens < 0,
        "open text is no longer refused either": estimates["A3.gen"] < 0,
        "what opens is mostly broken or wrong": complied is not None and complied < 0,
    }
    names = [name for name, is_shown in occurs.items() if is_shown]
    return f"By the point estimates (no verdict; see the intervals): {'; '.join(names) if names else 'none'}."


def write_report(results: Results, preset: Preset, world: str, out: Path) -> Path:
    """Writes the figures and report.html (see `Study`)."""
    figures = write_figures(figure_functions(results, preset), _CAPTIONS, out / "figures")
    claims = {row["id"]: row for row in results.claims}
    summary = [summary_paragraph(claims), failure_modes(claims), format_verdicts(results.claims)]
    rates = ", ".join(f"{rate:g}" for rate in preset.rates)
    facts = {
        "models": f"world {world}, formats {', '.join(preset.formats)}; alignment by SSFT, coverage "
        f"{', '.join(preset.coverages)}, {preset.alignment.steps} steps",
        "fine-tuning": f"{preset.tuning.steps} steps of {preset.tuning.batch_size}, {preset.examples} safe "
        f"examples, learning rates {rates}; the user's is the smallest at which {LEARNT:.0%} of held-out "
        "requests of the tuned task are answered rightly",
        "evaluation": f"{preset.n} held-out requests per format and family, greedy answers, exact: refused, "
        "answered as instructed, wrong but well-formed, degenerate",
    }
    of_requests = ["format", "family", "operator"]
    classifiers = results.tables["ngram_classifiers"].pivot_table(
        index="format", columns="n", values="auroc", sort=False
    )
    shown = {
        "Before fine-tuning, mean over seeds": _mean_over_seeds(
            results.tables["before_tuning"], ["coverage", "model", *of_requests]
        ),
        "After fine-tuning, mean over seeds": _mean_over_seeds(
            results.tables["after_tuning"], ["coverage", "tuned_on", "kind", "rate", "step", *of_requests]
        ),
        "Classifiers of n-grams of the text, AUROC, mean over seeds": classifiers.reset_index(),
    }
    path = out / "report.html"
    title = f"jan2024 at {preset.name}: fine-tuning on one task and refusals in all formats"
    write_page(Page(title, summary, facts, results.claims, figures, shown), path)
    return path


def _mean_over_seeds(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    return rows.drop(columns="seed").groupby(by, sort=False).mean().reset_index()
