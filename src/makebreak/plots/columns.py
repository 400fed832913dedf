"""Figure of any measures: one panel per measure, one marker per model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from makebreak.plots.grid import panel_grid
from makebreak.plots.style import plain_text

_PER_ROW = 3


def plot_columns(table: pd.DataFrame, group: str, columns: Sequence[str]) -> list[Axes]:
    """Values of measures: one panel per column, one row per group and one marker per model.

    Args:
        table: One row per model, with the column `group` and the columns of the measures, in their own
            units; undefined values are left out.
        group: Column that names the rows of every panel.
        columns: Columns that are drawn.

    Returns:
        The Axes, one per column.
    """
    groups = list(dict.fromkeys(table[group]))
    panel = (1.9, 0.9 + 0.22 * len(groups))
    _, panels = panel_grid(len(columns), across=_PER_ROW, panel=panel, margin=(1.4, 0.0), sharey=True)
    for ax, column in zip(panels, columns, strict=True):
        ax.plot(table[column].astype(float), table[group].map(groups.index), "o", markersize=3.5, alpha=0.7)
        ax.set(xlabel=column, ylim=(len(groups) - 0.5, -0.5))
        ax.hlines(np.arange(len(groups) - 1) + 0.5, *ax.get_xlim(), color="0.92", linewidth=0.6, zorder=0)
    panels[0].set_yticks(range(len(groups)), [plain_text(str(name)) for name in groups])
    return panels
