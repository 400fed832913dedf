"""Figures of a report, drawn in one style and written as PNG and PDF."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from makebreak.claims import NotRun
from makebreak.output_record import create_output_subfolder
from makebreak.plots import style
from makebreak.plots.interactive import Charts, chart_specifications
from makebreak.report.page import Figure
from makebreak.store import write_atomic

_SUFFIXES = ("png", "pdf")


def write_figures(
    drawings: Mapping[str, Callable[[], Any]],
    captions: Mapping[str, tuple[str, str]],
    folder: Path,
    charts: Mapping[str, Callable[[], Charts]] | None = None,
) -> list[Figure]:
    """Draws figures and writes each as NAME.png and NAME.pdf.

    Args:
        drawings: For each name, a function that draws the figure and returns its Axes, one or an array of
            them, or raises `NotRun`.
        captions: For each name, the title and the caption.
        folder: The folder to write to; it is created if it does not exist.
        charts: For the names of some figures, a function that makes interactive charts of the same.

    Returns:
        The figures, in the order of `drawings`.

    Raises:
        InvalidInput: If the folder is a symbolic link, or a file is the user's (`makebreak.output_record`).
    """
    create_output_subfolder(folder, [f"{name}.{suffix}" for name in drawings for suffix in _SUFFIXES])
    figures = []
    for name, draw in drawings.items():
        with style():
            try:
                figure = np.ravel(draw())[0].figure
            except NotRun:  # what it shows was not computed
                continue
            for suffix in _SUFFIXES:
                content = io.BytesIO()  # a file that is drawn into would be half a figure after an interrupt
                # without the date, so that the same command writes the same bytes
                metadata = {"CreationDate": None} if suffix == "pdf" else None
                figure.savefig(content, format=suffix, metadata=metadata)
                write_atomic(folder / f"{name}.{suffix}", content.getvalue())
            plt.close(figure)
        title, caption = captions[name]
        specifications = chart_specifications(charts or {}, name)
        figures.append(Figure(folder / f"{name}.png", title, caption, specifications))
    return figures
