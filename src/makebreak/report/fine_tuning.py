"""Page on an aligned or fine-tuned language model: tables, figures, and a summary with the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from makebreak.evaluation import deciding_judge
from makebreak.lm.fine_tuning import AFTER, BEFORE, FineTuneResult
from makebreak.model_names import model_title
from makebreak.output_folders import FIGURES, REPORT, TABLES
from makebreak.plots import plot_refusal_rates, plot_training_loss
from makebreak.plots.interactive import chart_refusal_rates, chart_training_loss
from makebreak.report.eval_log import write_eval_log
from makebreak.report.figures import write_figures
from makebreak.report.page import Page, write_page
from makebreak.report.tables import write_tables
from makebreak.report.utility_text import describe_utility

_CAPTIONS = {
    "refusals": (
        "Refusal rates before and after",
        "Share of greedy answers that each judge calls a refusal; degenerate answers do not count. None of "
        "these requests was trained on. Bars: 95 % intervals (Wilson) over requests.",
    ),
    "training": (
        "Training loss",
        "Loss of the objective by step, in its own units, which differ between objectives.",
    ),
}


def fine_tuning_summary(result: FineTuneResult) -> list[str]:
    """Summarises the evaluation, one sentence per family of prompts and one for the task if there is one."""
    behaviour = {
        (row["condition"], row["family"]): row
        for row in result.tables["behaviour"]
        if row["judge"] == deciding_judge()
    }
    lines = []
    for family in dict.fromkeys(family for _, family in behaviour):
        before, after = behaviour[BEFORE, family], behaviour[AFTER, family]
        degenerate = f", {after['degenerate']:.2f} degenerate" if after["degenerate"] > 0 else ""
        lines.append(
            f"{family}: refused {before['refuse']:.2f} before, {after['refuse']:.2f} [{after['low']:.2f}, "
            f"{after['high']:.2f}] after{degenerate} (n = {after['n']} held-out requests)"
        )
    lines.append(describe_utility(result.tables["utility"]))
    if "task" in result.tables:
        before, after = result.tables["task"]
        lines.append(
            f"task: {before['nll']:.2f} nats per token of the correct answers before, "
            f"{after['nll']:.2f} after (answers of other items: {after['shuffled_nll']:.2f}); exact match "
            f"{before['exact_match']:.2f} before, {after['exact_match']:.2f} after (n = {after['n']} "
            "held-out items)"
        )
    return [*lines, f"model: {result.folder}"]


def write_fine_tuning(name: str, result: FineTuneResult, facts: dict[str, str], out: Path) -> Path:
    """Writes tables, figures and the page.

    Args:
        name: The model as it was named on the command line.
        result: The fine-tuned model and its evaluation.
        facts: What was run, by name.
        out: The folder to write to.

    Returns:
        The HTML file.
    """
    tables = {table: pd.DataFrame(rows) for table, rows in result.tables.items()}
    write_tables(tables, out / TABLES)
    write_eval_log("fine_tuning", name, result.tables["answers"], out)
    behaviour = tables["behaviour"]
    labels = behaviour["family"] + ", " + behaviour["condition"]
    drawings: dict[str, Any] = {
        "refusals": lambda: plot_refusal_rates(behaviour.assign(group=labels), "group"),
        "training": lambda: plot_training_loss(tables["training"]),
    }
    charts = {
        "refusals": lambda: chart_refusal_rates(behaviour.assign(group=labels), "group"),
        "training": lambda: chart_training_loss(tables["training"]),
    }
    figures = write_figures(drawings, _CAPTIONS, out / FIGURES, charts)
    sections = {"Behaviour": behaviour, "Loss on plain text": tables["utility"]}
    if "task" in tables:
        sections["Task"] = tables["task"]
    title = f"{model_title(name)} {result.change}"
    facts = {**facts, "folder": str(result.folder)}
    answers = {"Answers before and after": tables["answers"]}
    page = Page(title, fine_tuning_summary(result), facts, figures, sections, answers=answers)
    return write_page(page, out / REPORT)
