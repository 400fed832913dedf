"""Page of a study: question, answer and one picture; primary claims as cards; everything else folded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from makebreak.characters import escape_hidden
from makebreak.claims import ClaimRow, NotRun, format_value
from makebreak.output_folders import FIGURES, REPORT
from makebreak.report.cards import Card, make_card
from makebreak.report.cells import page_table
from makebreak.report.claim_text import count_text
from makebreak.report.figures import write_figures
from makebreak.report.page import content_policy, page_script, template_environment
from makebreak.store import write_atomic
from makebreak.studies import Results, Study

_FOLDED = {
    "Primary claims as a table": "primary",
    "Parts and controls, descriptive": "part",
    "Checks of the settings": "check",
}


def write_study(study: Study, results: Results, preset: Any, world: str, out: Path) -> Path:
    """Writes the figures of a study and its page, report.html.

    Args:
        study: The study.
        results: Its tables and evaluated claims.
        preset: The preset that was run.
        world: Name of the world.
        out: Folder of the results.

    Returns:
        The HTML file.
    """
    tables = results.tables
    drawings: dict[str, Callable[[], Any]] = {
        figure.name: partial(figure.draw, tables, preset)
        for figure in study.figures
        if all(name in tables for name in figure.requires)
    }
    captions = {figure.name: (figure.title, figure.caption) for figure in study.figures}
    figures = write_figures(drawings, captions, out / FIGURES)
    claims = {row.id: row for row in results.claims}
    environment = template_environment()
    environment.filters["value"] = format_value
    html = environment.get_template("study.html").render(
        study=study,
        heading=f"{study.title} ({study.name} at {preset.name}, world {world})",
        preset=preset.name,
        world=world,
        answer=study.answer(claims),
        counts=count_text([row for row in results.claims if row.role == "primary"]),
        cards=_cards(study, claims, [figure.path.stem for figure in figures]),
        folded={
            title: [row for row in results.claims if row.role == role] for title, role in _FOLDED.items()
        },
        figures=figures,
        facts=study.facts(preset, world),
        tables={title: page_table(table) for title, table in _summaries(study, tables).items()},
        names=sorted(tables),
        script=page_script(),
        policy=content_policy([page_script()]),
    )
    write_atomic(out / REPORT, escape_hidden(html))
    return out / REPORT


def _cards(study: Study, claims: Mapping[str, ClaimRow], names: Sequence[str]) -> list[Card]:
    """Cards of the primary claims, with those of the figures that show them."""
    cards = []
    for claim in study.claims:
        if claim.role == "primary":
            shown = [each for each in study.figures if claim.id in each.claims and each.name in names]
            figures = [(figure.name, figure.title) for figure in shown]
            cards.append(make_card(claims[claim.id], figures, [claims[name] for name in claim.parts]))
    return cards


def _summaries(study: Study, tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Tables of the page by title; those whose rows were not computed are left out."""
    result = {}
    for title, summarise in study.summaries.items():
        with suppress(NotRun):
            result[title] = summarise(tables)
    return result
