"""How do figures get onto a page? Drawn in one style, and written as PNG and PDF."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from makebreak.plots import style
from makebreak.report.page import Figure


def write_figures(
    drawings: Mapping[str, Callable[[], Any]], captions: Mapping[str, tuple[str, str]], folder: Path
) -> list[Figure]:
    """drawings: name → a function that draws it and gives its Axes, one or many. captions: name → title, caption.
    folder: made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = []
    for name, draw in drawings.items():
        with style():
            figure = np.ravel(draw())[0].figure
            for suffix in ("png", "pdf"):
                figure.savefig(folder / f"{name}.{suffix}")
            plt.close(figure)
        figures.append(Figure(folder / f"{name}.png", *captions[name]))
    return figures
