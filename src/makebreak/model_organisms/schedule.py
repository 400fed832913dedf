"""When features are at the decision position, and whether changes can read what they need."""

from __future__ import annotations

from typing import NamedTuple

from makebreak.model_organisms.constructions import Construction
from makebreak.model_organisms.parameters import Part

NEVER, ALWAYS = 99, -1
"""Times of what never, and of what already in the embeddings, is at the decision position. The attention of
block b is at time 2 b, its MLP at 2 b + 1."""


class Schedule(NamedTuple):
    """Times at which features are at the decision position in the base."""

    n_layers: int
    """Number of blocks."""
    layout: str
    """Layout of prompts."""
    letter: int
    """Time of the letter."""
    marker: int
    """Time of the marker."""
    number: int
    """Time of the number."""
    circuit: int
    """Time of the base's circuit of refusal."""

    @property
    def in_body(self) -> bool:
        """Whether the marker is not in the last token."""
        return self.layout in ("joint", "apart", "letter last")


def is_possible(part: Part, construction: Construction, schedule: Schedule) -> bool:
    """Whether everything is where and when the changes of a part read it."""
    if construction.marker == "needed" and schedule.marker == NEVER:
        return False
    visible = _complete_at(part, construction, schedule) if part.lower else schedule.marker
    if visible is None:
        return False
    depth = part.depth or 0
    if depth >= schedule.n_layers and not construction.last_block:
        return False
    if construction.circuit:
        is_above = schedule.circuit // 2 >= max(depth, 1)
        if not visible < schedule.circuit < NEVER or not is_above:
            return False
    return _can_read(part, construction, schedule, visible)


def _can_read(part: Part, construction: Construction, schedule: Schedule, visible: int) -> bool:
    """Whether the upper changes are above the movement, and what they read is there."""
    needed = [visible]
    if construction.by_letter or construction.reads_letter:
        needed.append(schedule.letter)
    if construction.needs_number:
        needed.append(schedule.number)
    if construction.reads_marker:
        needed.append(schedule.marker)
    return all(
        change.block >= max(part.depth or 0, 1)
        and (change.site == "attention" or max(needed) < 2 * change.block + 1)
        for change in part.upper
    )


def _complete_at(part: Part, construction: Construction, schedule: Schedule) -> int | None:
    """Time at which the movement is at the decision position; None if it cannot be made so."""
    times = [_time(change.block, change.site, construction, schedule) for change in part.lower]
    complete = [time for time in times if time is not None]
    return max(complete) if len(complete) == len(times) else None


def _time(block: int, site: str, construction: Construction, schedule: Schedule) -> int | None:
    s = schedule
    if construction.head_change:
        is_there = construction.head_change == "key" or s.marker < 2 * block
        return s.letter if 2 * block == s.letter and is_there else None
    at_marker = site in ("embedding", "marker mlp")
    if construction.marker != "needed":
        return ALWAYS if at_marker and s.in_body else None
    if construction.by_letter and at_marker:
        if s.layout == "decision" and site == "embedding":
            return ALWAYS
        passes = construction.passes and s.layout == "joint" and 2 * block + 1 < s.letter
        return s.letter if passes else None
    if site == "attention":
        is_own = construction.n_lower != (1, 1)
        return 2 * block if s.in_body and (is_own or 2 * block == s.marker) else None
    if site == "embedding":
        return None if s.in_body and construction.writes_refusal else s.marker
    if site == "marker mlp":
        return s.marker if s.in_body and 2 * block + 1 < s.marker else None
    needed = [s.marker, s.letter if construction.by_letter else ALWAYS]
    if construction.needs_number:
        needed.append(s.number)
    return 2 * block + 1 if max(needed) < 2 * block + 1 else None
