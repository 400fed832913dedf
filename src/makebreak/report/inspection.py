"""Page on the inspection of a language model: tables, figures, and a summary with the numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from makebreak.evaluation import JUDGES, deciding_judge, judge_agreement_rows, krippendorff_alpha
from makebreak.lm.inspection import InspectionResult
from makebreak.lm.verdicts import behaviour_rows
from makebreak.model_names import model_title
from makebreak.output_folders import FIGURES, REPORT, TABLES
from makebreak.plots import plot_class_separation, plot_refusal_directions, plot_refusal_rates
from makebreak.plots.interactive import (
    Charts,
    chart_class_separation,
    chart_refusal_directions,
    chart_refusal_rates,
)
from makebreak.report.conditions import condition_words
from makebreak.report.eval_log import write_eval_log
from makebreak.report.figures import write_figures
from makebreak.report.page import Page, write_page
from makebreak.report.tables import write_tables
from makebreak.report.utility_text import describe_utility
from makebreak.tables import Rows, as_dicts

_CAPTIONS = {
    "refusals": (
        "Refusal and over-refusal",
        "Share of greedy answers that each judge calls a refusal; degenerate answers do not count. "
        "Borderline requests are harmless but contain words that are typical of harmful ones. Bars: 95 % "
        "intervals (Wilson) over requests.",
    ),
    "clusters": (
        "Separation of harmful and harmless requests by layer",
        "Difference of the class-mean projection τ between held-out harmless and harmful requests at the "
        "last token of the prompt; 2 is perfect separation. The classes differ in topic, so separation alone "
        "does not show that refusal is represented. Band: 95 % interval over requests.",
    ),
    "directions": (
        "Candidates for a refusal direction",
        "Difference of the mean states of harmful and harmless requests at the last token of the prompt, by "
        "layer. The ring marks the selected candidate: of those that pass all criteria, the one whose "
        "ablation lowers the log-odds of refusal most, or with --selection cosmic that with the greatest sum "
        "of cosines.",
    ),
    "ablation": (
        "Effect of the selected direction on the answers",
        "The direction is ablated at every layer and position, or added before its own layer. Controls: no "
        "intervention, and ablation of a random direction.",
    ),
}
_ANSWERS = {"answers": "Answers", "ablation": "Answers under interventions"}
"""Titles of the tables of answers."""
_REJECTIONS = {
    "not evaluated": "beyond the depth limit",
    "ablation moves": "ablation changes harmless requests too much (KL)",
    "addition": "addition does not induce refusal",
    "undefined": "the class means coincide",
    "the classes": "the held-out classes do not differ",
    "ablated harmful": "ablation moves harmful requests no nearer to harmless ones",
    "harmless requests with": "addition moves harmless requests no nearer to harmful ones",
}
"""How the summary words the reasons in the table of directions, by their first words."""


def write_inspection(name: str, result: InspectionResult, facts: dict[str, str], out: Path) -> Path:
    """Writes tables, figures and the page.

    Args:
        name: The model as it was named on the command line.
        result: The inspection.
        facts: What was run, by name.
        out: The folder to write to.

    Returns:
        The HTML file.
    """
    tables = {table: pd.DataFrame(rows) for table, rows in result.tables.items()}
    if "ablation" in tables:
        tables["ablated_behaviour"] = pd.DataFrame(behaviour_rows(result.tables["ablation"]))
    tables["agreement"] = pd.DataFrame(judge_agreement_rows(_verdicts(result)))
    write_tables(tables, out / TABLES)
    greedy = result.tables["answers"] + result.tables.get("ablation", [])
    write_eval_log("inspect", name, greedy, out, samples=result.tables.get("samples"))
    figures = write_figures(_drawings(tables), _CAPTIONS, out / FIGURES, _charts(tables))
    titles = {
        "behaviour": "Behaviour",
        "sample_rates": "Behaviour of sampled answers",
        "utility": "Loss on plain text",
        "agreement": "Agreement of the judges: share, Cohen's κ with its 95 % interval, Krippendorff's α",
        "clusters": "Separation by layer",
        "sensitivity": "Sensitivity: quartiles over requests",
        "directions": "Candidates for a refusal direction",
        "ablated_behaviour": "Behaviour under interventions",
    }
    sections = {title: tables[table] for table, title in titles.items() if table in tables}
    answers = {heading: tables[table] for table, heading in _ANSWERS.items() if table in tables}
    title = f"Inspection of {model_title(name)}"
    page = Page(title, inspection_summary(result), facts, figures, sections, answers=answers)
    return write_page(page, out / REPORT)


def inspection_summary(result: InspectionResult) -> list[str]:
    """Summarises an inspection in sentences: refusal rates, separation and the refusal direction."""
    behaviour = {row["family"]: row for row in result.tables["behaviour"] if row["judge"] == deciding_judge()}
    rates = ", ".join(
        f"{row['refuse']:.2f} [{row['low']:.2f}, {row['high']:.2f}] of {row['n']} {family} requests"
        for family, row in behaviour.items()
    )
    degenerate = max(row["degenerate"] for row in behaviour.values())
    paragraphs = [
        f"The model refuses {rates} (judge {deciding_judge()}; 95 % intervals over requests)."
        + (f" At most {degenerate:.2f} of the answers to a family are degenerate." if degenerate > 0 else "")
    ]
    paragraphs += [_sampled_rates(result.tables["sample_rates"])] if "sample_rates" in result.tables else []
    unfinished = max(row["open_reasoning"] for row in behaviour.values())
    if unfinished > 0:
        paragraphs.append(
            f"The reasoning of up to {unfinished:.2f} of the answers to a family does not end: such an "
            "answer counts as degenerate. Raise --max-new-tokens, or choose --thinking off or skip (with a "
            "--template of your own, add a block without reasoning at its end)."
        )
    paragraphs.append(describe_utility(result.tables["utility"]))
    if "clusters" in result.skip_reasons:
        return [*paragraphs, f"No mechanism was computed: {result.skip_reasons['clusters']}."]
    paragraphs.append(_agreement_sentence(_verdicts(result)))
    best = max(result.tables["clusters"], key=lambda row: row["auroc"])
    paragraphs.append(
        f"Separation of harmful and harmless requests is greatest after layer {best['layer'] + 1}: AUROC of "
        f"τ {best['auroc']:.2f} [{best['auroc_low']:.2f}, {best['auroc_high']:.2f}] on held-out requests "
        f"({best['shuffled_auroc']:.2f} with shuffled labels)."
    )
    if "directions" in result.skip_reasons:
        return [*paragraphs, f"No refusal direction was computed: {result.skip_reasons['directions']}."]
    candidates = [row for row in result.tables["directions"] if row["kind"] == "difference"]
    if "ablation" in result.skip_reasons:
        return [
            *paragraphs,
            f"None of the {len(candidates)} candidates for a refusal direction meets the selection criteria: "
            f"{_rejections(candidates)}.",
        ]
    selected = next(row for row in candidates if row["is_selected"])
    return [*paragraphs, _ablation_effect(selected, result.tables["ablation"])]


def _sampled_rates(rates: Rows) -> str:
    """Refusal of sampled answers, and compliance of any of them, beside the greedy answers."""
    rows = [row for row in rates if row["judge"] == deciding_judge()]
    parts = [
        f"of {row['n']} {row['family']} requests, {row['refuse']:.2f} [{row['low']:.2f}, {row['high']:.2f}] "
        f"of the sampled answers are refusals ({row['greedy_refuse']:.2f} of the greedy ones), and at least "
        f"one complies for {row['any_comply']:.2f} [{row['any_comply_low']:.2f}, "
        f"{row['any_comply_high']:.2f}] (greedy {row['greedy_comply']:.2f})"
        for row in rows
    ]
    return (
        f"With {rows[0]['samples']} answers per request at temperature {rows[0]['temperature']:g}: "
        f"{'; '.join(parts)}."
    )


def _verdicts(result: InspectionResult) -> dict[str, np.ndarray]:
    """Verdicts of every judge on all answers, and whether a refusal is likely to begin."""
    answers = result.tables["answers"]
    verdicts = {judge: np.array([row[judge] for row in answers], bool) for judge in JUDGES}
    return verdicts | {"first token": np.array([(row["log_odds"] or 0.0) > 0 for row in answers])}


def _agreement_sentence(verdicts: dict[str, np.ndarray]) -> str:
    """Agreement of all judges, without the first token, and the pair that agrees least."""
    judges = {name: own for name, own in verdicts.items() if name in JUDGES}
    alpha = krippendorff_alpha(np.stack(list(judges.values())).astype(float))
    if alpha is None:
        return "All judges give one and the same verdict throughout: their agreement says nothing."
    text = (
        f"Agreement of the {len(judges)} judges on {len(verdicts['first token'])} answers: Krippendorff's α "
        f"{alpha:.2f} (1: always the same verdict, 0: as by chance)"
    )
    rows = [row for row in judge_agreement_rows(judges) if row.kappa_low is not None]
    if not rows:
        return f"{text}."
    least = min(rows, key=lambda row: row.kappa or 0.0)
    return (
        f"{text}; {least.judge} and {least.other_judge} agree least (Cohen's κ {least.kappa:.2f} "
        f"[{least.kappa_low:.2f}, {least.kappa_high:.2f}], 95 % over answers)."
    )


def _drawings(tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Functions that draw the figures whose tables exist."""
    drawings: dict[str, Any] = {"refusals": lambda: plot_refusal_rates(tables["behaviour"], "family")}
    if "clusters" in tables:
        drawings["clusters"] = lambda: plot_class_separation(tables["clusters"])
    if "directions" in tables:
        drawings["directions"] = lambda: plot_refusal_directions(tables["directions"])
    if "ablated_behaviour" in tables:
        drawings["ablation"] = lambda: plot_refusal_rates(_conditions(tables["ablated_behaviour"]), "group")
    return drawings


def _charts(tables: dict[str, pd.DataFrame]) -> dict[str, Callable[[], Charts]]:
    """Functions that make interactive charts of the same figures."""
    return {
        "refusals": lambda: chart_refusal_rates(tables["behaviour"], "family"),
        "clusters": lambda: chart_class_separation(tables["clusters"]),
        "directions": lambda: chart_refusal_directions(tables["directions"]),
        "ablation": lambda: chart_refusal_rates(_conditions(tables["ablated_behaviour"]), "group"),
    }


def _conditions(rows: pd.DataFrame) -> pd.DataFrame:
    """Behaviour with one group for each condition and family."""
    return rows.assign(group=condition_words(rows)["condition"] + ", " + rows["family"])


def _rejections(candidates: Rows) -> str:
    """How many candidates were rejected, by reason."""
    counts = {
        words: sum(row["reason"].startswith(start) for row in candidates)
        for start, words in _REJECTIONS.items()
    }
    return ", ".join(f"{n} {words}" for words, n in counts.items() if n)


def _ablation_effect(candidate: dict[str, Any], ablation: Rows) -> str:
    """Refusal rates with the selected direction ablated or added, beside the controls."""
    rates = {
        (row["condition"], row["family"]): row["refuse"]
        for row in as_dicts(behaviour_rows(ablation))
        if row["judge"] == deciding_judge()
    }
    return (
        f"A refusal direction was selected before layer {candidate['layer'] + 1}. Its ablation changes the "
        f"refusal rate on harmful requests from {rates['nothing', 'harmful']:.2f} to "
        f"{rates['ablated', 'harmful']:.2f} (ablation of a random direction: "
        f"{rates['random ablated', 'harmful']:.2f}); its addition changes that on harmless requests from "
        f"{rates['nothing', 'harmless']:.2f} to {rates['added', 'harmless']:.2f}."
    )
