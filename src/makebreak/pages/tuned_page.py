"""How is a tuned language model shown? Tables, figures, and sentences made from the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from makebreak.pages.tuned import AFTER, BEFORE, Tuned
from makebreak.pages.verdicts import JUDGE
from makebreak.plots import plot_refusals, plot_training
from makebreak.report import Page, write_figures, write_page, write_tables

_CAPTIONS = {
    "refusals": (
        "Refusals before and after",
        "Share of greedy answers that each judge calls a refusal; broken answers are not counted. None of these "
        "requests was trained on. Bars: 95 % (Wilson) over requests.",
    ),
    "training": (
        "Training",
        "Loss of the objective by step, in its own units: not comparable between objectives.",
    ),
}


def tuned_lines(found: Tuned) -> list[str]:
    """What became of the model, in sentences."""
    at = {
        (row["condition"], row["family"]): row for row in found.tables["behaviour"] if row["judge"] == JUDGE
    }
    told = []
    for family in dict.fromkeys(family for _, family in at):
        before, after = at[BEFORE, family], at[AFTER, family]
        spoilt = f", {after['broken']:.2f} broken" if after["broken"] > 0 else ""
        told.append(
            f"{family}: refused {before['refuse']:.2f} before, {after['refuse']:.2f} [{after['low']:.2f}, "
            f"{after['high']:.2f}] after{spoilt} ({after['n']} requests that it was not trained on)"
        )
    if "task" in found.tables:
        one, other = found.tables["task"]
        told.append(
            f"its task: {one['nll']:.2f} nats per token of the right answer before, {other['nll']:.2f} after (of "
            f"another item's {other['shuffled']:.2f}); {other['exact']:.2f} of {other['n']} held-out items exact, "
            f"{one['exact']:.2f} before"
        )
    return told


def write_tuned(name: str, found: Tuned, facts: dict[str, str], out: Path) -> Path:
    """Write tables, figures and the page; gives the page."""
    tables = {table: pd.DataFrame(rows) for table, rows in found.tables.items()}
    write_tables(tables, out / "tables")
    behaviour = tables["behaviour"]
    drawings: dict[str, Any] = {
        "refusals": lambda: plot_refusals(
            behaviour.assign(at=behaviour.family + ", " + behaviour.condition), "at"
        ),
        "training": lambda: plot_training(tables["training"]),
    }
    figures = write_figures(drawings, _CAPTIONS, out / "figures")
    shown = {"Behaviour": behaviour, "Answers": tables["answers"]}
    shown |= {"Task": tables["task"]} if "task" in tables else {}
    path = out / "report.html"
    write_page(Page(name, tuned_lines(found), facts, [], figures, shown), path)
    return path
