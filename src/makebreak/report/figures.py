"""Figures of a report, drawn in one style and written as PNG and PDF."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from makebreak.claims import NotRun
from makebreak.plots import style
from makebreak.report.page import Figure


def write_figures(
    drawings: Mapping[str, Callable[[], Any]], captions: Mapping[str, tuple[str, str]], folder: Path
) -> list[Figure]:
    """Draws figures and writes each as NAME.png and NAME.pdf.

    Args:
        drawings: For each name, a function that draws the figure and returns its Axes, one or an array of
            them, or raises `NotRun`.
        captions: For each name, the title and the caption.
        folder: The folder to write to; it is created if it does not exist.

    Returns:
        The figures, in the order of `drawings`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = []
    for name, draw in drawings.items():
        with style():
            try:
                figure = np.ravel(draw())[0].figure
            except NotRun:  # what it shows was not computed
                continue
            for suffix in ("png", "pdf"):
                figure.savefig(folder / f"{name}.{suffix}")
            plt.close(figure)
        title, caption = captions[name]
        figures.append(Figure(folder / f"{name}.png", title, caption))
    return figures
