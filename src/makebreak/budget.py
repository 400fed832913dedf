"""A time budget of this process, within which results are computed one after the other.

Whether the next result fits is estimated from results of its kind: those that this process has computed, else
those whose cost the store has on record. A computation that has begun is finished, except that a training
stops at a checkpoint once the time is over (`check_time`), from which it resumes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class OutOfTime(Exception):
    """The time budget is used up, or too short for what comes next; nothing is lost."""


@dataclass
class _Budget:
    deadline: float
    """Seconds since the epoch."""
    begin_any: bool
    """Whether the first computation begins, while time is left, however long it may take."""
    durations: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of the computations of this process by kind."""
    recorded: dict[str, float | None] = field(default_factory=dict)
    """Longest recorded duration by kind."""


_active: list[_Budget] = []  # at most one


@contextmanager
def limit_time(seconds: float, *, begin_any: bool = True) -> Iterator[None]:
    """A context in which the computations of this process have to fit into a number of seconds.

    Args:
        seconds: Time from now.
        begin_any: Whether the first computation begins, while time is left, however long it may take.

    Yields:
        Nothing.
    """
    _active.append(_Budget(time.time() + seconds, begin_any))
    try:
        yield
    finally:
        _active.pop()


def deadline() -> float | None:
    """End of the time budget in seconds since the epoch; None without a budget."""
    return _active[-1].deadline if _active else None


def is_over() -> bool:
    """Whether there is a time budget, and it is used up."""
    return bool(_active) and time.time() >= _active[-1].deadline


def check_time(label: str) -> None:
    """Ends a computation that has just written a checkpoint, if the time is over.

    Args:
        label: Name of the computation.

    Raises:
        OutOfTime: If there is a time budget, and it is used up.
    """
    if is_over():
        raise OutOfTime(f"{label} stopped at a checkpoint")


def check_fits(kind: str, earlier: Callable[[], Iterable[float]]) -> None:
    """Checks that the next computation fits into the rest of the budget; without a budget everything fits.

    Args:
        kind: Kind of the computation; those of one kind are expected to take the same time.
        earlier: Durations of earlier computations of this kind, in seconds; called at most once for each
            kind, and only if this process has computed none.

    Raises:
        OutOfTime: If the budget is used up, or if the longest known duration exceeds its rest. The first
            computation in a budget begins in any case while time is left.
    """
    if not _active:
        return
    budget = _active[-1]
    left = budget.deadline - time.time()
    if left <= 0:
        raise OutOfTime(f"no time is left for {kind}")
    if kind in budget.durations:
        expected: float | None = max(budget.durations[kind])
    else:
        if kind not in budget.recorded:
            budget.recorded[kind] = max(earlier(), default=None)
        expected = budget.recorded[kind]
    if not budget.begin_any and expected is not None and expected > left:
        raise OutOfTime(f"{kind} takes about {expected:.0f} s, and {left:.0f} s are left")
    budget.begin_any = False


def add_duration(kind: str, seconds: float) -> None:
    """Notes how long a computation took, for the estimates of the following ones of its kind.

    Args:
        kind: Kind of the computation.
        seconds: Its duration.
    """
    if _active:
        _active[-1].durations.setdefault(kind, []).append(seconds)
