"""Page on the comparison of two checkpoints: tables, figures, and the hypothesis that they support."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from makebreak.mechanism import Verdict
from makebreak.pages.steps import Rows
from makebreak.plots import plot_preactivation_decomposition, plot_stitching, plot_updates
from makebreak.report import Page, write_figures, write_page, write_tables

_CAPTIONS = {
    "rivals": (
        "Stitching: silence, route or rewrite",
        "Both networks are cut at every layer and stitched, on harmful requests. Left: the aligned model's "
        "lower layers with the base's upper layers. A share of at least .5 of the refusal margin means that "
        "the base already had the route to refusal; within the grey band the changed states have no effect "
        "there (silence). Dotted: a random change of the same norm. Middle: the base's lower layers with the "
        "aligned model's upper layers. Right: Fisher null fraction, the share of the change's energy in the "
        "null space of the base's Fisher matrix.",
    ),
    "updates": (
        "Column space and inputs of the MLP update",
        "Sine of the angle between the leading left singular vectors of ΔW_in and the column space of W_in, "
        "as published and corrected. Chance: a random update, and ΔW with its outputs permuted. No base of "
        "another seed exists as a control. Right: read gain of the update, harmful relative to harmless "
        "requests.",
    ),
    "anatomy": (
        "Decomposition of the change in the MLP",
        "The change of the MLP's pre-activations is the sum of W·Δx, caused by earlier layers, ΔW·x, caused "
        "by the update itself, and their interaction. Right: energy of ΔW·a within the outputs that the base "
        "uses most on harmless requests; on the dotted diagonal the update is independent of them.",
    ),
}
_FAMILY_NAMES = {"harmless": "safe", "harmful": "unsafe"}  # names that the plots use


def write_comparison(
    names: tuple[str, str], tables: dict[str, Rows], verdict: Verdict, facts: dict[str, str], out: Path
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
    write_tables(frames, out / "tables")
    plotted = {name: frame.assign(seed=0, arm="aligned") for name, frame in frames.items()}
    for name in ("anatomy", "energy"):
        plotted[name] = plotted[name].replace({"family": _FAMILY_NAMES})
    drawings = {
        "rivals": lambda: plot_stitching(plotted["rivals"], ["aligned"]),
        "updates": lambda: plot_updates(
            plotted["updates"], plotted["reading"], ["aligned"], {"aligned": ("harmless", "harmful")}
        ),
        "anatomy": lambda: plot_preactivation_decomposition(
            plotted["anatomy"], plotted["energy"], ["aligned"]
        ),
    }
    figures = write_figures(drawings, _CAPTIONS, out / "figures")
    path = out / "report.html"
    base, aligned = (Path(name).name for name in names)
    summary = comparison_summary(tables, verdict)
    write_page(Page(f"From {base} to {aligned}", summary, facts, [], figures, frames), path)
    return path


def comparison_summary(tables: dict[str, Rows], verdict: Verdict) -> list[str]:
    """Summarises a comparison: the supported hypothesis, the reason, the change of the refusal margin."""
    row = tables["rivals"][0]
    return [
        f"Hypothesis on how refusal comes about: {verdict.answer} ({verdict.why}). The refusal margin on "
        f"harmful requests changes from {row['base']:.2f} to {row['aligned']:.2f} nats. This is one pair of "
        "models: there is no interval over training runs."
    ]
