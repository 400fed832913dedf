"""How is a comparison of two checkpoints shown?"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from makebreak.mechanism import Verdict
from makebreak.pages.steps import Rows
from makebreak.plots import plot_anatomy, plot_rivals, plot_updates
from makebreak.report import Page, write_figures, write_page, write_tables

_CAPTIONS = {
    "rivals": (
        "Silence, route or rewrite",
        "The two networks are cut at every layer and put together crosswise, on harmful requests. Left: the aligned "
        "lower part with the base's upper part. At or above .5 of the margin the base had the way (route); within the "
        "grey band the movement changes nothing there (silence). Dotted: a random movement as large. Middle: the "
        "base's lower part with the aligned upper part. Right: share of the movement that the base hardly hears.",
    ),
    "updates": (
        "Where the update of the MLP input writes, and what it reads",
        "Sine of the angle between leading outputs of ΔW and the column space of W, as released and corrected, with "
        "what chance gives: a random update, and ΔW with its outputs permuted. There is no base of another seed. "
        "Right: how much more the update reads of harmful requests than of harmless ones.",
    ),
    "anatomy": (
        "What changed, and where the update writes",
        "The change of the MLP's pre-activations: W·Δx is what earlier layers moved, ΔW·x the update itself. Right: "
        "energy of ΔW·a within the outputs that the base uses most on harmless requests; on the dotted diagonal the "
        "update does not care where the base writes.",
    ),
}
_FAMILIES = {"harmless": "safe", "harmful": "unsafe"}  # as figures call them


def write_comparison(
    names: tuple[str, str], tables: dict[str, Rows], found: Verdict, facts: dict[str, str], out: Path
) -> Path:
    """Write tables, figures and the page; gives the page. names: of the base and of the aligned model."""
    frames = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    write_tables(frames, out / "tables")
    drawn = {name: frame.assign(seed=0, arm="aligned") for name, frame in frames.items()}
    for name in ("anatomy", "energy"):
        drawn[name] = drawn[name].replace({"family": _FAMILIES})
    drawings = {
        "rivals": lambda: plot_rivals(drawn["rivals"], ["aligned"]),
        "updates": lambda: plot_updates(
            drawn["updates"], drawn["reading"], ["aligned"], {"aligned": ("harmless", "harmful")}
        ),
        "anatomy": lambda: plot_anatomy(drawn["anatomy"], drawn["energy"], ["aligned"]),
    }
    figures = write_figures(drawings, _CAPTIONS, out / "figures")
    path = out / "report.html"
    title = "From {} to {}".format(*(Path(name).name for name in names))
    write_page(Page(title, verdict_lines(tables, found), facts, [], figures, frames), path)
    return path


def verdict_lines(tables: dict[str, Rows], found: Verdict) -> list[str]:
    """What was found, in sentences made from the numbers."""
    row = tables["rivals"][0]
    change = f"the log-odds that a refusal begins go from {row['base']:.2f} to {row['aligned']:.2f} on harmful requests"
    return [
        f"How the second model comes to refuse: {found.answer} ({found.why}); {change}. One pair of models: no "
        "interval over training runs."
    ]
