"""Page on the safety landscape of a model: tables, figures, and a summary with the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from makebreak.lm.landscape import TRUNCATION_FACTOR
from makebreak.model_names import model_title
from makebreak.output_folders import FIGURES, REPORT, TABLES
from makebreak.plots import describe_bands, plot_basins
from makebreak.plots.interactive import chart_basins
from makebreak.report.figures import write_figures
from makebreak.report.page import Page, write_page
from makebreak.report.tables import write_tables
from makebreak.tables import Rows
from makebreak.weight_landscape import CAPABILITY_THRESHOLD

_CAPTIONS = {
    "basins": (
        "Random directions",
        "Outcomes of a model whose weights are perturbed by a share of their norm. What is neither refused "
        "nor complied with is degenerate or wrong.",
    ),
    "interpolation": (
        "Line to the other checkpoint",
        "Outcomes along the straight line between two checkpoints: 0 is the model, 1 the other checkpoint.",
    ),
}
_OTHER_SECTIONS = {
    "interpolation": _CAPTIONS["interpolation"][0],
    "truncation": "Effect of truncating the answers",
}
"""Titles of tables that not every landscape has."""
_HALF = 0.5
"""Refusal rate that ends a safety basin."""


def landscape_summary(tables: Mapping[str, Rows]) -> list[str]:
    """Summarises the tables of a landscape: outcomes of the model itself, half-widths and VISAGE."""
    curves, widths, truncation, line = (
        pd.DataFrame(tables.get(name, [])) for name in ("curves", "widths", "truncation", "interpolation")
    )
    origin = curves[curves["coordinate"] == 0].iloc[0]
    outcomes = (
        f"The unperturbed model refuses {origin['refusal_rate']:.2f} of unsafe requests, complies with "
        f"{origin['compliance_rate']:.2f} of them, and complies with {origin['safe_compliance_rate']:.2f} of "
        "safe requests."
    )
    if origin["refusal_rate"] <= _HALF:
        return [
            outcomes,
            "At most half of the unsafe requests are refused: there is no safety basin to measure.",
        ]
    sentences = [outcomes, _width_sentence(curves, widths), _visage_sentence(widths)]
    sentences += [] if truncation.empty else [_truncation_sentence(truncation)]
    return sentences + ([] if line.empty else [_interpolation_sentence(line)])


def write_landscape(name: str, landscape: Mapping[str, Rows], facts: dict[str, str], out: Path) -> Path:
    """Writes tables, figures and the page.

    Args:
        name: The model as it was named on the command line.
        landscape: The tables of the landscape.
        facts: What was run, by name.
        out: The folder to write to.

    Returns:
        The HTML file.
    """
    tables = {table: pd.DataFrame(rows) for table, rows in landscape.items()}
    write_tables(tables, out / TABLES)
    model = model_title(name)
    drawings = {"basins": lambda: plot_basins(tables["curves"].assign(arm=model), [model])}
    if "interpolation" in tables:
        line = tables["interpolation"].assign(arm=model)
        drawings["interpolation"] = lambda: plot_basins(line, [model], along="coordinate on the line")
    charts = {
        "basins": lambda: chart_basins(tables["curves"]),
        "interpolation": lambda: chart_basins(tables["interpolation"], along="coordinate on the line"),
    }
    heading, caption = _CAPTIONS["basins"]
    captions = _CAPTIONS | {"basins": (heading, f"{caption} {describe_bands(tables['curves'])}".strip())}
    figures = write_figures(drawings, captions, out / FIGURES, charts)
    mean = tables["curves"].drop(columns="direction").groupby("coordinate").mean()
    sections = {"Widths": tables["widths"], "Curves, mean over directions": mean.reset_index()}
    sections |= {_OTHER_SECTIONS[name]: tables[name] for name in _OTHER_SECTIONS if name in tables}
    title = f"Safety landscape of {model}"
    return write_page(Page(title, landscape_summary(landscape), facts, figures, sections), out / REPORT)


def _width_sentence(curves: pd.DataFrame, widths: pd.DataFrame) -> str:
    """Half-widths of refusal and of compliance with safe requests, and what happens between."""
    most = float(curves.groupby("coordinate")["compliance_rate"].mean().max())
    remaining = widths[widths["criterion"] == "not refused"]["safe_compliance_at_r50"].dropna()
    edge = "refusal never falls to one half within the window"
    if len(remaining):
        edge = f"where refusal does, {remaining.mean():.2f} of the compliance with safe requests remains"
    return (
        f"Along random directions, refusal of unsafe requests falls to one half at a relative norm of "
        f"{_mean_and_range(widths, 'not refused', 'r50')}, and compliance with safe requests at "
        f"{_mean_and_range(widths, 'unable', 'r50')}; {edge}. At most {most:.2f} of unsafe requests are "
        "complied with at any distance (mean of directions): the other answers that are not refusals are "
        "degenerate or wrong."
    )


def _visage_sentence(widths: pd.DataFrame) -> str:
    return (
        f"VISAGE is {_mean_and_range(widths, 'not refused', 'visage')} by its definition and "
        f"{_mean_and_range(widths, 'not refused', 'visage_released')} by the released code; over the points "
        f"where at least {CAPABILITY_THRESHOLD:.0%} of safe requests are complied with, it is "
        f"{_mean_and_range(widths, 'not refused', 'visage_capable')}."
    )


def _truncation_sentence(rows: pd.DataFrame) -> str:
    """How often truncation of the answers changes their verdict."""
    change = rows["verdict_change_rate"]
    return (
        f"With answers {TRUNCATION_FACTOR} times as long, {change.mean():.2f} of verdicts differ (mean of "
        f"{rows['coordinate'].nunique()} points; at most {change.max():.2f}), and "
        f"{rows['refusal_change_rate'].mean():.2f} of refusals."
    )


def _interpolation_sentence(rows: pd.DataFrame) -> str:
    """Outcomes on the line to another checkpoint."""
    start, end = (rows[rows["coordinate"] == coordinate].iloc[0] for coordinate in (0.0, 1.0))
    below = rows[(rows["coordinate"] >= 0) & (rows["refusal_rate"] < _HALF)]["coordinate"]
    crossing = (
        f"below one half from coordinate {below.iloc[0]:g} on" if len(below) else "never below one half"
    )
    return (
        f"On the line to the other checkpoint, refusal goes from {start['refusal_rate']:.2f} to "
        f"{end['refusal_rate']:.2f} ({crossing}) and compliance with safe requests from "
        f"{start['safe_compliance_rate']:.2f} to {end['safe_compliance_rate']:.2f}; the other checkpoint "
        f"complies with {end['compliance_rate']:.2f} of unsafe requests."
    )


def _mean_and_range(widths: pd.DataFrame, criterion: str, column: str) -> str:
    """Mean over directions with the range of several; `or beyond` if a half-width exceeds the window."""
    rows = widths[widths["criterion"] == criterion]
    values = cast("np.ndarray", rows[column].dropna().to_numpy(dtype=float))
    if not len(values):
        return "n/a"
    beyond = " or beyond" if column == "r50" and bool(rows["is_censored"].any()) else ""
    span = f" ({values.min():.2f} to {values.max():.2f} by direction)" if len(values) > 1 else ""
    return f"{values.mean():.2f}{span}{beyond}"
