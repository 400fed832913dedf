"""Results of the public API: tables, a figure, and a page."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from makebreak.configs import nearest
from makebreak.mechanism import MechanismVerdict
from makebreak.output_folders import FIGURES, REPORT, TABLES, check_output_folder, name_option
from makebreak.output_record import OutputOwner, check_output_files, record_output
from makebreak.plots import style
from makebreak.report import Page, write_figures, write_page, write_tables

_FOLDER = "folder"


@dataclass(frozen=True)
class Drawing:
    """One figure of a result."""

    title: str
    """Heading of the figure on a page."""
    caption: str
    """What it shows, its units and its intervals."""
    draw: Callable[[], Any]
    """Draws the figure and returns its Axes, one or an array of them."""


@dataclass(frozen=True, repr=False)
class Result:
    """What a function of the public API returns.

    A notebook shows the summary and the main table; `plot` draws the main figure; `save` writes a page.
    """

    title: str
    """What was done, with the names of the models."""
    owner: OutputOwner
    """Function and models, which own the folder that the page is written to."""
    tables: Mapping[str, pd.DataFrame]
    """All tables by name, the main one first."""
    summary: Sequence[str] = ()
    """The numbers in sentences, one paragraph each."""
    drawings: Mapping[str, Drawing] = field(default_factory=dict)
    """Figures by name, the main one first."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What was run, by name: models, requests, settings."""
    verdict: MechanismVerdict | None = None
    """Mechanism of refusal, where two models were compared."""
    write: Callable[[Path], Path] | None = None
    """Writes a page of its own kind into a folder; None for tables, figures and summary."""

    @property
    def table(self) -> pd.DataFrame:
        """The main table."""
        return next(iter(self.tables.values()))

    def plot(self, name: str | None = None) -> Figure:
        """Draws a figure.

        Args:
            name: Name of the figure in `drawings`; None for the main one.

        Returns:
            The matplotlib figure, which a notebook shows; `savefig` writes it to a file.

        Raises:
            ValueError: If there is no such figure.
        """
        if not self.drawings:
            raise ValueError(f"{self.title}: there is no figure; the numbers are in .table")
        name = next(iter(self.drawings)) if name is None else name
        if name not in self.drawings:
            raise ValueError(f"figure {name!r} does not exist; {nearest(name, list(self.drawings))}")
        with style():
            figure: Figure = np.ravel(self.drawings[name].draw())[0].figure
        plt.close(figure)  # a notebook would show it a second time
        return figure

    def save(self, folder: str | Path) -> Path:
        """Writes a self-contained page, the tables as CSV and the figures as PNG and PDF.

        Args:
            folder: The folder to write to; an earlier page of the same function and models is replaced.

        Returns:
            The HTML file.

        Raises:
            InvalidInput: If the folder cannot be written, or holds files that are not those of an earlier
                result of the same function and models.
        """
        folder = Path(folder)
        check_output_folder(folder, _FOLDER)
        check_output_files(folder, self.owner, _FOLDER)
        with name_option(_FOLDER, folder), record_output(folder, self.owner):
            return (self.write or self._write)(folder)

    def _write(self, folder: Path) -> Path:
        write_tables(self.tables, folder / TABLES)
        drawings = {name: drawing.draw for name, drawing in self.drawings.items()}
        captions = {name: (drawing.title, drawing.caption) for name, drawing in self.drawings.items()}
        figures = write_figures(drawings, captions, folder / FIGURES)
        tables = {name.replace("_", " "): table for name, table in self.tables.items()}
        page = Page(self.title, list(self.summary), dict(self.facts), figures, tables)
        return write_page(page, folder / REPORT)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(table)}×{table.shape[1]}" for name, table in self.tables.items())
        return f"<Result of {self.title}: {sizes}>"

    def _repr_html_(self) -> str:
        paragraphs = "".join(f"<p>{html.escape(text)}</p>" for text in self.summary)
        table = self.table.to_html(index=False, max_rows=30, float_format="{:.3g}".format, escape=True)
        return f"<h4>{html.escape(self.title)}</h4>{paragraphs}{table}"
