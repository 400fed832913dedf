"""Self-contained HTML page: summary, figures, facts about the run, tables. It needs no network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from makebreak.characters import escape_hidden
from makebreak.report.answers import page_answers
from makebreak.report.cells import page_table
from makebreak.store import write_atomic


@dataclass(frozen=True)
class Figure:
    """PNG file with a title and a caption."""

    path: Path
    """The PNG file."""
    title: str
    """Title, also the alternative text of the image."""
    caption: str
    """What is shown, and how to read it."""

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

    Control characters and marks of direction, of an answer or a name, are shown as escapes.

    Args:
        page: The content.
        path: The HTML file to write.

    Returns:
        The HTML file.
    """
    script = page_script()
    html = (
        template_environment()
        .get_template("page.html")
        .render(
            page=page,
            tables={title: page_table(table) for title, table in page.tables.items()},
            expanded={title: page_table(table) for title, table in page.expanded.items()},
            answers={title: page_answers(table) for title, table in page.answers.items()},
            script=script,
            policy=content_policy([script]),
        )
    )
    write_atomic(path, escape_hidden(html))
    return path


def template_environment() -> Environment:
    """Environment of the pages' templates: text is escaped, and an undefined name is an error."""
    return Environment(
        loader=PackageLoader("makebreak.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )


def page_script() -> Markup:
    """The script of the pages, which sorts and filters tables."""
    return Markup((files("makebreak.report") / "page.js").read_text(encoding="utf-8"))


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
