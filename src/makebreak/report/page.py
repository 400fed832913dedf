"""One self-contained HTML page: what was run, what holds, the figures, how to read them. It needs no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from makebreak.artifacts import write_atomic


@dataclass(frozen=True)
class Figure:
    """A PNG file and the caption that says how to read it."""

    path: Path
    title: str
    caption: str

    @property
    def data(self) -> str:
        return base64.b64encode(self.path.read_bytes()).decode()


@dataclass(frozen=True)
class Page:
    """Content of a report. facts: what was run, as rows; tables: title → table, folded away; unfolded: those that are
    not. unit: what intervals of claims are over."""

    title: str
    summary: Sequence[str]
    facts: Mapping[str, str]
    claims: Sequence[Mapping[str, Any]]
    figures: Sequence[Figure]
    tables: Mapping[str, pd.DataFrame]
    unfolded: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    unit: str = "pretraining seeds"


def write_page(page: Page, path: Path) -> None:
    """Write the page whole or not at all."""
    environment = Environment(
        loader=PackageLoader("makebreak.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["number"] = lambda x: "n/a" if x is None else f"{x:.3f}"
    tables, unfolded = (
        {
            title: table.to_html(index=False, border=0, float_format=lambda x: f"{x:.3f}", na_rep="n/a")
            for title, table in own.items()
        }
        for own in (page.tables, page.unfolded)
    )
    write_atomic(
        path, environment.get_template("page.html").render(page=page, tables=tables, unfolded=unfolded)
    )
