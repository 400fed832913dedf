"""Cards of claims: the interval drawn against bound and no effect, and a sentence that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from matplotlib.ticker import MaxNLocator

from makebreak.claims import LEVEL, ClaimRow, format_value

WIDTH = 460
"""Width of a drawing in its own units."""
_LEFT, _RIGHT = 20, WIDTH - 20
_SIDES = {"above": "above", "below": "below", "within": "at most"}


class Tick(NamedTuple):
    """A labelled place on the axis of a drawing."""

    x: float
    """Place in units of the drawing."""
    label: str
    """Text below it."""


@dataclass(frozen=True)
class Card:
    """What a report shows of one claim."""

    row: ClaimRow
    """The evaluated claim."""
    meaning: str
    """What the value says, and what it does not."""
    figures: tuple[tuple[str, str], ...]
    """Name and title of the figures that show it."""
    ticks: tuple[Tick, ...]
    """Ticks of the axis; none if there is nothing to draw."""
    interval: tuple[float, float] | None
    """Ends of the interval in units of the drawing."""
    estimate: float | None
    """The estimate in units of the drawing."""
    seeds: tuple[float, ...]
    """Values of the seeds in units of the drawing."""
    bounds: tuple[float, ...]
    """The bound, for `within` both ends of the range, in units of the drawing."""
    no_effect: float
    """No effect, in units of the drawing."""
    margin: tuple[float, float] | None
    """Ends of the margin of negligibility, in units of the drawing; None for no margin."""
    parts: tuple[ClaimRow, ...] = ()
    """The parts of a conjunction."""

    @property
    def css_class(self) -> str:
        """Class of the verdict in the page's style."""
        return self.row.verdict.replace(" ", "-")


def make_card(row: ClaimRow, figures: Sequence[tuple[str, str]] = (), parts: Sequence[ClaimRow] = ()) -> Card:
    """The card of a claim.

    Args:
        row: The evaluated claim.
        figures: Name and title of the figures that show it.
        parts: The parts of a conjunction.

    Returns:
        The card; without a drawing if there is no estimate.
    """
    meaning = describe(row)
    if row.estimate is None or row.bound is None or row.no_effect is None:
        return Card(row, meaning, tuple(figures), (), None, None, (), (), 0.0, None, tuple(parts))
    bounds = (row.bound,)
    if row.side == "within":
        bounds = row.no_effect - row.bound, row.no_effect + row.bound
    values = [value for value in row.values.values() if value is not None]
    margin = (row.no_effect - row.negligible, row.no_effect + row.negligible) if row.negligible else None
    shown = [*values, *bounds, row.no_effect, row.estimate, *(row.interval or ()), *(margin or ())]
    low, high = min(shown), max(shown)
    padding = 0.06 * (high - low) or 0.5
    low, high = low - padding, high + padding

    def place(value: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (value - low) / (high - low), 1)

    ticks = list(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
    return Card(
        row=row,
        meaning=meaning,
        figures=tuple(figures),
        ticks=tuple(Tick(place(value), f"{value + 0.0:.4g}") for value in ticks if low <= value <= high),
        interval=None if row.interval is None else (place(row.interval[0]), place(row.interval[1])),
        estimate=place(row.estimate),
        seeds=tuple(place(value) for value in values),
        bounds=tuple(place(value) for value in bounds),
        no_effect=place(row.no_effect),
        margin=None if margin is None else (place(margin[0]), place(margin[1])),
    )


def describe(row: ClaimRow) -> str:
    """One or two sentences that read an evaluated claim.

    Args:
        row: The claim.

    Returns:
        Value, interval, number of seeds, and its place relative to bound and no effect.
    """
    if row.verdict == "not run":
        return f"Not run: {row.reason}."
    if row.bound is None:
        return "All parts are supported." if row.verdict == "supported" else f"By its parts {row.reason}."
    unit = f" ({row.unit})" if row.unit else ""
    bound = f"{row.bound:g} from {row.no_effect:g}" if row.side == "within" else f"{row.bound:g}"
    claimed = f"{_SIDES[row.side]} {bound}, a bound set by {_source(row)}"
    value = f"The value is {format_value(row)}{unit}"
    texts = {
        "supported": f"{value}; the claim asks for {claimed}.",
        "weaker than stated": f"{value}: on the claimed side of no effect ({row.no_effect:g}), but not "
        f"{claimed}.",
        "negligible": f"{value}: within {row.negligible:g} of no effect ({row.no_effect:g}).",
        "contradicted": f"{value}: not {claimed}, but on the other side of {_other_side(row)}.",
        "inconclusive": f"{value}; whether it is {claimed}, is not decided.",
    }
    text = texts[row.verdict]
    if row.reason:
        text += f" {row.reason[0].upper()}{row.reason[1:]}."
    if row.p_holm is not None and row.p_holm >= LEVEL / 10:
        text += f" Holm-adjusted p = {row.p_holm:.3f}."
    return text


def _other_side(row: ClaimRow) -> str:
    return "the bound" if row.side == "within" else f"no effect ({row.no_effect:g})"


def _source(row: ClaimRow) -> str:
    return "us" if row.bound_source == "ours" else row.bound_source
