"""Page on the comparison of two checkpoints: tables, figures, and the hypothesis that they support."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from makebreak.mechanism import MechanismVerdict
from makebreak.model_names import model_title
from makebreak.output_folders import FIGURES, REPORT, TABLES
from makebreak.plots import plot_preactivation_decomposition, plot_stitching, plot_updates
from makebreak.plots.interactive import chart_stitching
from makebreak.report.figures import write_figures
from makebreak.report.page import Page, write_page
from makebreak.report.tables import write_tables
from makebreak.report.utility_text import describe_utility
from makebreak.tables import Rows

_CAPTIONS = {
    "stitching": (
        "Stitching of base and tuned layers",
        "Both networks are cut at every layer and stitched, on harmful requests. Left: the tuned model's "
        "lower layers with the base's upper layers; dotted, a random change of the same norm. Middle: the "
        "base's lower layers with the tuned model's upper layers. Shares are of the gain in the probability "
        "of a refusal, means over requests; the line is what a combination needs to count as refusing. "
        "Right: KL of the base with the tuned lower layers, as a share of KL(base ‖ tuned); below the line "
        "the movement is silent. The dashed line is at half of the blocks.",
    ),
    "updates": (
        "Column space and inputs of the update of W_in",
        "Left: the statistic of the script released with Jain et al. 2024, which compares rows of the left "
        "singular vectors of the tuned matrix with those of the base: 0 without an update, and no measure of "
        "its column space. Middle: sine of the angle between the leading left singular vectors of ΔW_in and "
        "the column space of W_in. Chance: random updates, and ΔW with its outputs permuted. No base of "
        "another seed exists as a control. Right: read gain of the update, harmful relative to harmless "
        "requests.",
    ),
    "preactivations": (
        "Decomposition of the change of W_in's outputs",
        "The change of the MLP's pre-activations W_in·x is the sum of W·Δx, caused by earlier layers, ΔW·x, "
        "caused by the update itself, and their interaction. Right: energy of ΔW·a within the outputs that "
        "the base uses most on harmless requests; on the dotted diagonal the update is independent of them.",
    ),
}
_CAPTIONS |= {
    f"{name}_gate": (title.replace("W_in", "W_gate"), caption.replace("W_in", "W_gate"))
    for name, (title, caption) in _CAPTIONS.items()
    if "W_in" in title
}
_EXPANDED = {
    "quantities": "The two models side by side",
    "request_log_odds": "Log-odds of a refusal by request, greatest change first",
}
"""Titles of the tables that are shown before the figures."""
_FAMILY_NAMES = {"harmless": "safe", "harmful": "unsafe"}  # names that the plots use


def write_comparison(
    names: tuple[str, str],
    tables: dict[str, Rows],
    verdict: MechanismVerdict,
    facts: dict[str, str],
    out: Path,
) -> Path:
    """Writes tables, figures and the page.

    Args:
        names: The base and the aligned model as they were named on the command line.
        tables: Tables of the comparison by name.
        verdict: The hypothesis that they support.
        facts: What was run, by name.
        out: The folder to write to.

    Returns:
        The HTML file.
    """
    frames = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    write_tables(frames, out / TABLES)
    plotted = {name: frame.assign(seed=0, arm="aligned") for name, frame in frames.items()}
    for name in ("preactivations", "update_energy"):
        plotted[name] = plotted[name].replace({"family": _FAMILY_NAMES})
    drawings: dict[str, Callable[[], object]] = {
        "stitching": lambda: plot_stitching(plotted["stitching"], ["aligned"]),
    }
    for suffix, matrix in (("", "mlp.W_in"), ("_gate", "mlp.W_gate")):
        drawings |= _matrix_figures(plotted, suffix, matrix)
    charts = {"stitching": lambda: chart_stitching(frames["stitching"])}
    figures = write_figures(drawings, _CAPTIONS, out / FIGURES, charts)
    base, aligned = model_title(names[0]), model_title(names[1])
    summary = comparison_summary(tables, verdict)
    expanded = {heading: frames.pop(table) for table, heading in _EXPANDED.items() if table in frames}
    page = Page(f"From {base} to {aligned}", summary, facts, figures, frames, expanded)
    return write_page(page, out / REPORT)


def _matrix_figures(
    frames: dict[str, pd.DataFrame], suffix: str, matrix: str
) -> dict[str, Callable[[], object]]:
    """Figures of one matrix that reads the MLP's input; a gated MLP has two.

    A figure is left out where a table that it shows has no row of the matrix, as after a change elsewhere.
    """
    families = {"aligned": ("harmless", "harmful")}
    figures: dict[str, Callable[[], object]] = {}
    if _have_rows(frames, ("updates", "read_gain"), matrix):
        figures[f"updates{suffix}"] = lambda: plot_updates(
            frames["updates"], frames["read_gain"], ["aligned"], families, matrix=matrix
        )
    if _have_rows(frames, ("preactivations", "update_energy"), matrix):
        figures[f"preactivations{suffix}"] = lambda: plot_preactivation_decomposition(
            frames["preactivations"], frames["update_energy"], ["aligned"], matrix=matrix
        )
    return figures


def _have_rows(frames: dict[str, pd.DataFrame], names: tuple[str, ...], matrix: str) -> bool:
    """Whether every named table has rows of a matrix; a table without rows has no columns."""
    return all("matrix" in frames[name] and (frames[name]["matrix"] == matrix).any() for name in names)


_WITHOUT_MATRICES = (
    "Tables of the matrices of the MLP (pre-activations, energies, gains and kernels) are n/a: the model is "
    "a mixture of experts, each of which has its own."
)


def comparison_summary(tables: dict[str, Rows], verdict: MechanismVerdict) -> list[str]:
    """Summarises a comparison: the supported hypothesis, the reason, the change of the refusal margin."""
    row = tables["stitching"][0]
    without_matrices = [] if tables.get("kernel_share", [{}]) else [_WITHOUT_MATRICES]
    return [
        f"How refusal comes about, by stitching: {verdict.mechanism} ({verdict.reason}). The refusal margin "
        f"on harmful requests changes from {row['base_margin']:.2f} to {row['tuned_margin']:.2f} nats. "
        "This is one pair of models: there is no interval over training runs.",
        *without_matrices,
        describe_utility(tables["utility"]),
    ]
