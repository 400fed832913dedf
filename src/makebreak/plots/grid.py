"""Grids of panels of equal size, in which no panel stays empty."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Inches = tuple[float, float]
"""Width and height in inches."""


def panel_grid(
    n: int, *, across: int, panel: Inches, margin: Inches = (0.0, 0.0), **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of n panels in rows.

    Args:
        n: Number of panels.
        across: Panels of a row, at most.
        panel: Size of a panel.
        margin: What the whole figure is larger than its panels.
        **options: Further arguments of `plt.subplots`, such as `sharex`.

    Returns:
        The figure, and the Axes row by row.
    """
    across = min(across, n)
    down = math.ceil(n / across)
    size = (panel[0] * across + margin[0], panel[1] * down + margin[1])
    figure, grid = plt.subplots(down, across, figsize=size, layout="constrained", squeeze=False, **options)
    axes = list(grid.flat)
    for ax in axes[n:]:
        figure.delaxes(ax)
    return figure, axes[:n]
