"""What do all figures share? Sizes, fonts and colours fit for a paper; arms keep their colour everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import matplotlib as mpl
import seaborn as sns
from matplotlib.ticker import MaxNLocator

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
ARM_NAMES = {
    "ssft": "SSFT",
    "dpo": "DPO + NLL",
    "dpo_plain": "DPO",
    "dpo_paper": "DPO (paper's)",
    "npo": "NPO",
}
ARM_NAMES |= {"base_without_unsafe": "base, never unsafe"}
OUTCOME_COLOURS = {
    "refuse": _COLOURS[0],
    "comply": _COLOURS[3],
    "comply_wrongly": _COLOURS[4],
    "broken": (0.7, 0.7, 0.7),
}


def arm_name(arm: str) -> str:
    """Name of an arm as shown; a sham arm names its method."""
    method = arm.removeprefix("sham_")
    return ARM_NAMES.get(method, method) + (" sham" if arm != method else "")


def arm_colours(arms: Sequence[str]) -> dict[str, tuple[float, ...]]:
    return {arm: tuple(ARM_COLOURS.get(arm.removeprefix("sham_"), (0.0, 0.0, 0.0))) for arm in arms}


def layer_ticks(layers: Iterable[int]) -> list[int]:
    """As many as can be read side by side: all of up to eight layers, of more every second, fifth, tenth …"""
    every = sorted({int(layer) for layer in layers})
    if len(every) <= 8:
        return every
    chosen = MaxNLocator(7, integer=True, steps=[1, 2, 5, 10]).tick_values(every[0], every[-1])
    return [layer for layer in every if layer in chosen]


@contextmanager
def style() -> Iterator[None]:
    """Paper style for figures made within, without touching the caller's settings."""
    with (
        sns.axes_style("ticks"),
        sns.plotting_context("paper"),
        mpl.rc_context(
            {
                "figure.dpi": 150,
                "savefig.dpi": 200,
                "savefig.bbox": "tight",
                "pdf.fonttype": 42,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "legend.frameon": False,
            }
        ),
    ):
        yield
        interactive = mpl.is_interactive()
    mpl.interactive(
        interactive
    )  # a notebook's backend turns it on with its first figure, which may be one of these
