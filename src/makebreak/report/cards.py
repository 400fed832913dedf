"""Cards of claims: the interval drawn against bound and no effect, and a sentence that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from matplotlib.ticker import MaxNLocator

from makebreak.claims import VERDICTS, ClaimRow
from makebreak.report.claim_text import describe_claim

WIDTH = 460
"""Width of a drawing in its own units."""
_LEFT, _RIGHT = 50, WIDTH - 50


class Tick(NamedTuple):
    """A labelled place on the axis of a drawing."""

    x: float
    """Place in units of the drawing."""
    label: str
    """Text below it."""


class Bound(NamedTuple):
    """A bound of a claim in a drawing."""

    x: float
    """Place in units of the drawing."""
    anchor: Literal["start", "middle", "end"]
    """Side of its label: two bounds have theirs outside of both."""


@dataclass(frozen=True)
class Drawing:
    """Places of what is drawn of a claim, in units of the drawing."""

    ticks: tuple[Tick, ...]
    """Ticks of the axis."""
    interval: tuple[float, float] | None
    """Ends of the interval."""
    estimate: float
    """The estimate."""
    seeds: tuple[float, ...]
    """Values of the seeds."""
    bounds: tuple[Bound, ...]
    """The bound, for `within` both ends of the range."""
    no_effect: float
    """No effect."""
    margin: tuple[float, float] | None
    """Ends of the margin of negligibility; None for no margin."""


@dataclass(frozen=True)
class Card:
    """What a report shows of one claim."""

    row: ClaimRow
    """The evaluated claim."""
    meaning: str
    """What the value says, and what it does not."""
    figures: tuple[tuple[str, str], ...]
    """Name and title of the figures that show it."""
    parts: tuple[ClaimRow, ...]
    """The parts of a conjunction, by verdict."""
    drawing: Drawing | None
    """The interval against bound and no effect; None without an estimate."""


def make_card(row: ClaimRow, figures: Sequence[tuple[str, str]] = (), parts: Sequence[ClaimRow] = ()) -> Card:
    """The card of a claim.

    Args:
        row: The evaluated claim.
        figures: Name and title of the figures that show it.
        parts: The parts of a conjunction.

    Returns:
        The card; without a drawing if there is no estimate.
    """
    ordered = sorted(parts, key=lambda part: VERDICTS.index(part.verdict))
    return Card(row, describe_claim(row, parts), tuple(figures), tuple(ordered), _draw(row))


def _draw(row: ClaimRow) -> Drawing | None:
    """The drawing of a claim, on an axis that holds all that is drawn."""
    if row.estimate is None or row.bound is None or row.no_effect is None:
        return None
    bounds = (row.bound,)
    if row.side == "within":
        bounds = row.no_effect - row.bound, row.no_effect + row.bound
    values = [value for value in row.values.values() if value is not None]
    margin = (row.no_effect - row.negligible, row.no_effect + row.negligible) if row.negligible else None
    shown = [*values, *bounds, row.no_effect, row.estimate, *(row.interval or ()), *(margin or ())]
    low, high = min(shown), max(shown)
    if low == high:
        low, high = low - 0.5, high + 0.5

    def place(value: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (value - low) / (high - low), 1)

    padding = 0.06 * (high - low)
    ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    anchors: tuple[Literal["start", "middle", "end"], ...] = (
        ("middle",) if len(bounds) == 1 else ("end", "start")
    )
    return Drawing(
        ticks=tuple(Tick(place(x), f"{x + 0.0:.4g}") for x in ticks if low - padding <= x <= high + padding),
        interval=None if row.interval is None else (place(row.interval[0]), place(row.interval[1])),
        estimate=place(row.estimate),
        seeds=tuple(place(value) for value in values),
        bounds=tuple(Bound(place(x), anchor) for x, anchor in zip(bounds, anchors, strict=True)),
        no_effect=place(row.no_effect),
        margin=None if margin is None else (place(margin[0]), place(margin[1])),
    )
