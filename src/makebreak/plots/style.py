"""Style that all figures share: sizes and fonts for a paper, and one colour per arm in every figure."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.ticker import MaxNLocator

from makebreak.characters import escape_hidden

Colour = tuple[float, ...]
"""Red, green and blue, each from 0 to 1."""
_COLOURS = sns.color_palette("colorblind")
ARM_COLOURS = {
    "base": (0.45, 0.45, 0.45),
    "ssft": _COLOURS[0],
    "dpo": _COLOURS[1],
    "unlearning": _COLOURS[2],
    "dpo_plain": _COLOURS[5],
    "dpo_paper": _COLOURS[8],
    "ascent": _COLOURS[3],
    "npo": _COLOURS[4],
}
"""Colour of each arm; a sham control has that of its method."""
ARM_NAMES = {
    "ssft": "SSFT",
    "dpo": "DPO + NLL",
    "dpo_plain": "DPO",
    "dpo_paper": "DPO (paper's)",
    "npo": "NPO",
    "base_without_unsafe": "base, never unsafe",
}
"""Names of arms in figures, where they differ from the arm's own."""
OUTCOME_COLOURS = {
    "refuse": _COLOURS[0],
    "comply": _COLOURS[3],
    "comply_wrongly": _COLOURS[4],
    "broken": (0.7, 0.7, 0.7),
}
"""Colour of each outcome."""
OUTCOME_NAMES = {
    "refuse": "refusal",
    "comply": "compliance",
    "comply_wrongly": "wrong answer",
    "broken": "degenerate answer",
}
"""Names of outcomes in figures."""
_ALL_LAYERS = 8
"""Largest number of layers that are all labelled on an axis."""


def plain_text(name: str) -> str:
    """A name as matplotlib shows it unchanged: dollar signs begin no formula, a tab is a space."""
    return escape_hidden(name.replace("\t", " ")).replace("$", r"\$")


def arm_name(arm: str) -> str:
    """Name of an arm in figures; a sham control is named after its method."""
    method = arm.removeprefix("sham_")
    return ARM_NAMES.get(method, plain_text(method)) + (" sham" if arm != method else "")


def arm_colours(arms: Sequence[str]) -> dict[str, Colour]:
    """Colour of each arm; black for an arm without one of its own."""
    return {arm: tuple(ARM_COLOURS.get(arm.removeprefix("sham_"), (0.0, 0.0, 0.0))) for arm in arms}


def layer_ticks(layers: Iterable[int]) -> list[int]:
    """Layers to label on an axis: all of up to eight, of more every second, fifth or tenth."""
    every = sorted({int(layer) for layer in layers})
    if len(every) <= _ALL_LAYERS:
        return every
    ticks = MaxNLocator(7, integer=True, steps=[1, 2, 5, 10]).tick_values(every[0], every[-1])
    return [layer for layer in every if layer in ticks]


@contextmanager
def style() -> Iterator[None]:
    """Context with paper style for the figures made in it; the caller's settings are restored afterwards."""
    settings: dict[Any, Any] = {
        "figure.dpi": 150,
        "savefig.dpi": 200,
        "savefig.bbox": "tight",
        "pdf.fonttype": 42,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }
    with (
        sns.axes_style("ticks"),
        sns.plotting_context("paper"),
        mpl.rc_context(settings),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # of a name; the page shows it
        yield
        is_interactive = mpl.is_interactive()
    mpl.interactive(is_interactive)  # a notebook's backend turns it on with its first figure, maybe in here
