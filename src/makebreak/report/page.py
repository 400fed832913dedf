"""Self-contained HTML page: summary, figures, facts about the run, tables. It needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from makebreak.characters import escape_hidden
from makebreak.plots.interactive import chart_script
from makebreak.provenance import provenance_facts, without_places
from makebreak.report.answers import page_answers
from makebreak.report.cells import page_table
from makebreak.report.conditions import condition_words
from makebreak.store import write_atomic

_COLUMN_NOTES = {
    "tuned_rate": "base_rate and tuned_rate are shares of requests whose likeliest first token begins the "
    "answer that alignment trained, such as a refusal. An answer can begin so and end otherwise, so that "
    "they can exceed the shares of whole answers: tuned_whole_rate, and the rates of refusals elsewhere.",
}
"""What a reader has to know of a table with a column of this name."""


@dataclass(frozen=True)
class Figure:
    """PNG file with a title and a caption."""

    path: Path
    """The PNG file."""
    title: str
    """Title, also the alternative text of the image."""
    caption: str
    """What is shown, and how to read it."""
    charts: Sequence[Mapping[str, Any]] = ()
    """Vega-Lite specifications of interactive charts that show the same, one per panel."""

    @property
    def data(self) -> str:
        """The file's bytes in base64."""
        return base64.b64encode(self.path.read_bytes()).decode()


@dataclass(frozen=True)
class Page:
    """Content of a report."""

    title: str
    """Title of the page."""
    summary: Sequence[str]
    """Paragraphs at the top of the page."""
    facts: Mapping[str, str]
    """What was run, by name: model, prompts, settings."""
    figures: Sequence[Figure]
    """Figures in the order in which they are shown."""
    tables: Mapping[str, pd.DataFrame]
    """Tables by title, collapsed until a reader opens them."""
    expanded: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """Tables by title that are shown in full, before the figures."""
    answers: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """Tables of answers by title, with the columns of `report.answers.page_answers`."""


def write_page(page: Page, path: Path) -> Path:
    """Writes the page atomically: an error leaves an older file as it was.

    Control characters and marks of direction, of an answer or a name, are shown as escapes. Summary and facts
    are shown without the places that they name (`makebreak.provenance`), and versions are added to the facts.

    Args:
        page: The content.
        path: The HTML file to write.

    Returns:
        The HTML file.
    """
    scripts = [page_script()]
    if any(figure.charts for figure in page.figures):
        scripts += [Markup(chart_script()), _script("charts.js")]
    template = template_environment().get_template("page.html")
    html = template.render(
        page=page,
        summary=[without_places(paragraph) for paragraph in page.summary],
        facts={name: without_places(value) for name, value in page.facts.items()} | provenance_facts(),
        tables={title: page_table(condition_words(table)) for title, table in page.tables.items()},
        expanded={title: page_table(condition_words(table)) for title, table in page.expanded.items()},
        notes={title: _column_notes(table) for title, table in page.tables.items()},
        answers={title: page_answers(condition_words(table)) for title, table in page.answers.items()},
        scripts=scripts,
        policy=content_policy(scripts),
    )
    write_atomic(path, escape_hidden(html))
    return path


def _column_notes(table: pd.DataFrame) -> str:
    """What a reader has to know of the columns of a table; empty for most tables."""
    return " ".join(note for column, note in _COLUMN_NOTES.items() if column in table)


def template_environment() -> Environment:
    """Environment of the pages' templates: text is escaped, and an undefined name is an error."""
    environment = Environment(
        loader=PackageLoader("makebreak.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["inline_json"] = inline_json
    return environment


def inline_json(value: Any) -> Markup:
    """A value as JSON that can stand between the tags of a script.

    Args:
        value: What JSON can hold. Hidden characters of its texts are escaped as everywhere on a page, and
            would be shown by what reads the JSON.

    Returns:
        The JSON, in ASCII and without `<`, `>` and `&`, so that no text of it ends the script.
    """
    text = json.dumps(_escape_texts(value), separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _escape_texts(value: Any) -> Any:
    """A value of JSON with hidden characters of its texts escaped."""
    if isinstance(value, str):
        return escape_hidden(value)
    if isinstance(value, Mapping):
        return {escape_hidden(str(key)): _escape_texts(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escape_texts(item) for item in value]
    return value


def page_script() -> Markup:
    """The script of the pages, which sorts and filters tables."""
    return _script("page.js")


def _script(name: str) -> Markup:
    return Markup((files("makebreak.report") / name).read_text(encoding="utf-8"))


def content_policy(scripts: Sequence[str]) -> str:
    """Content security policy of a page, by which a browser loads nothing and runs only the page's scripts.

    Args:
        scripts: The scripts, as they stand between their tags.

    Returns:
        The policy. It names the scripts by their SHA-256, so that no other one is run, wherever it comes
        from.
    """
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    sources = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {sources}; "
        "base-uri 'none'; form-action 'none'"
    )
