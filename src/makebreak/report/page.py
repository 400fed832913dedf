"""Self-contained HTML page: summary, figures, facts about the run, tables. It needs no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from makebreak.characters import escape_hidden
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


def write_page(page: Page, path: Path) -> Path:
    """Writes the page atomically: an error leaves an older file as it was.

    Control characters and marks of direction, of an answer or a name, are shown as escapes.

    Args:
        page: The content.
        path: The HTML file to write.

    Returns:
        The HTML file.
    """
    template = template_environment().get_template("page.html")
    html = template.render(page=page, tables=as_html(page.tables), expanded=as_html(page.expanded))
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


def as_html(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """HTML tables by title, with three decimals.

    Args:
        tables: The tables by title.

    Returns:
        The HTML of each.
    """
    return {
        title: table.to_html(index=False, border=0, float_format=lambda x: f"{x:.3f}", na_rep="n/a")
        for title, table in tables.items()
    }
